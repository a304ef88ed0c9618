#!/bin/sh
# What `npm start` runs: the set-up, then the service in the place of this shell, so that signals reach it.
# Usage: sh core/start.sh FILE [ARGUMENTS of FILE]
node core/setup.mjs "$@" && exec node_modules/.bin/node "$@"
