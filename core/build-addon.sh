#!/bin/sh
# Builds pkcs11js against Node's stable interface alone (node-api-headers). The node-gyp of a distribution may link what it builds with that
# distribution's Node, which then is in one process with the Node that the project brings, and ends it with a segmentation fault.
# Usage: sh core/build-addon.sh, in a folder whose node_modules, or whose parent, has both packages.
set -eu
for modules in node_modules ..; do
  if [ -d "$modules/pkcs11js" ] && [ -d "$modules/node-api-headers" ]; then break; fi
done
headers=$(cd "$modules/node-api-headers/include" && pwd)
cd "$modules/pkcs11js"
case $(uname) in
  Darwin) link='-undefined dynamic_lookup' ;;
  *) link= ;;
esac
mkdir -p build/Release
# shellcheck disable=SC2086
c++ -std=c++17 -O2 -fPIC -shared $link \
  -DNAPI_DISABLE_CPP_EXCEPTIONS -DNODE_GYP_MODULE_NAME=pkcs11 -DBUILDING_NODE_EXTENSION \
  -I"$headers" -Iincludes src/dl.cpp src/common.cpp src/main.cpp -o build/Release/pkcs11.node
