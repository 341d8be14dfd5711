#!/bin/sh
# Installs lock files into /opt/venv while an image is built: wheels only, each against its hash.
#
#   install.sh LOCK [PIP OPTION ...]
#
# How packages are reached is this machine's own business: its CA bundle and pip settings come as
# build secrets, a folder of wheels as a build context, and none of them stays in a layer.
set -eu
lock=$1
shift
if [ -e /run/secrets/ca ]; then export PIP_CERT=/run/secrets/ca SSL_CERT_FILE=/run/secrets/ca; fi
if [ -e /run/secrets/pip.conf ]; then export PIP_CONFIG_FILE=/run/secrets/pip.conf; fi
export PIP_FIND_LINKS=/mnt/wheels PIP_CACHE_DIR=/var/cache/pip

# --no-deps: the lock names everything. --no-compile: compiled below, so that it can be repeated.
install() {
    /opt/pip/bin/python -m pip --python /opt/venv/bin/python install --no-input --no-compile \
        --no-deps --require-hashes --only-binary :all: --progress-bar off \
        --disable-pip-version-check --root-user-action ignore --requirement "$lock" "$@"
}
install "$@" || {
    # The CPU build of torch is on PyTorch's own index alone; the hash decides what is taken.
    case $lock in *torch-cpu*) install --index-url https://download.pytorch.org/whl/cpu "$@" ;; *) exit 1 ;; esac
}

# By hash, not by time: the same wheels give the same bytes, and no start-up looks at a source.
# https://docs.python.org/3/reference/import.html#cached-bytecode-invalidation
site=$(/opt/venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
for package in "$site"/*/; do
    [ -e "$package/__pycache__" ] ||
        /opt/venv/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash "$package" || true
done
/opt/venv/bin/python -m compileall -q -l --invalidation-mode unchecked-hash "$site"
