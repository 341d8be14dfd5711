#!/bin/sh
# Removes what no program of the lab uses, in the layer that brought it: trim.sh LIST
#
# LIST holds a shell pattern below site-packages per line, and comments that say why.
set -eu
cd "$(/opt/venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
sed -e 's/#.*//' -e '/^[[:space:]]*$/d' "$1" | while read -r pattern; do
    # shellcheck disable=SC2086 # the pattern is to be expanded
    rm -rf -- $pattern
done
