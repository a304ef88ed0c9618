#!/bin/sh
# The command @NAME@: @MAIN@ on the Node that the package brings, whatever Node the machine has. Data is where the Filesystem Hierarchy
# Standard and the XDG base directories have it, unless --data or WARIFU_DATA says otherwise.
here=$(dirname "$(readlink -f "$0")") || exit
if [ "$(id -u)" = 0 ]; then
  state=/var/lib cache=/var/cache
else
  # Paths that are relative are to be ignored (XDG base directories).
  case ${XDG_STATE_HOME:-} in /*) state=$XDG_STATE_HOME ;; *) state=${HOME:?is not set: it says where data is; set it, or WARIFU_DATA}/.local/state ;; esac
  case ${XDG_CACHE_HOME:-} in /*) cache=$XDG_CACHE_HOME ;; *) cache=$HOME/.cache ;; esac
fi
: "${WARIFU_DATA:=$state/@NAME@}" "${NODE_COMPILE_CACHE:=$cache/@NAME@}"
export WARIFU_DATA NODE_COMPILE_CACHE
for node in "$here"/../node_modules/node-*/bin/node "$here"/../../node-*/bin/node; do
  if [ -x "$node" ]; then exec "$node" --max-semi-space-size=8 "$here/../@MAIN@" "$@"; fi
done
echo "@NAME@: the package has no Node for this machine: install it with its optional dependencies (npm install, without --omit=optional)" >&2
exit 1
