#!/bin/sh
# Sorts the labs while an image is built: sort-labs.sh LABS PUBLIC KEYS
#
# Public is what is named here, and a package that learners import (no skill: it has no lab.toml);
# everything else in a lab's folder is a key, for root alone.
set -eu
labs=$1 public=$2 keys=$3
cd "$labs"
for lab in */; do
    if [ -e "$lab/__init__.py" ] && ! [ -e "$lab/lab.toml" ]; then
        mkdir -p "$public/labs"
        cp -r "$lab" "$public/labs/$lab"
    fi
    [ -e "$lab/lab.toml" ] || continue
    mkdir -p "$public/labs/$lab" "$keys/labs/$lab"
    for file in "$lab"*; do
        case $file in
        */lab.toml | */README.md | */exercise.py | */scene.py | *.png | *.svg | *.jpg) cp "$file" "$public/labs/$lab" ;;
        *) cp -r "$file" "$keys/labs/$lab" ;;
        esac
    done
done
chmod -R u=rwX,go=rX "$public"
find "$keys" -type f -exec chmod 0400 {} +
# One moment for all: a layer depends on what is in it, not on when it was checked out.
find "$public" "$keys" -exec touch -h -d @0 {} +
