# Sourced by the scripts beside it, which run from the top of the checkout.
#
# Whatever installs something leaves a stamp file in the virtual environment and does nothing while
# the stamp is newer than what it was made from.
# shellcheck shell=bash
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

newer_pythons=${NEWER_PYTHONS:-../shared/tools/newer-pythons}   # 3.14 and 3.15 in a chroot

say() { printf '\033[1m== %s\033[0m\n' "$*"; }
die() { printf '%s\n' "$*" >&2; exit 1; }

# find_python VERSION: the interpreter of that version, from PATH or else from pyenv.
find_python() {
    local python
    for python in "$(command -v "python$1")" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$1".*/bin/python; do
        # Being there is not enough: pyenv has a shim for versions that are switched off.
        [ -x "$python" ] && "$python" -c '' 2>/dev/null && echo "$python" && return
    done
    return 1
}

# in_chroot VERSION: whether that version is to be had from newer-pythons.
in_chroot() {
    [[ $1 =~ ^3\.1[45]d?$ && -x $newer_pythons && $EUID = 0 && -z ${HOTLOOP_CHROOT-} ]]
}

# up_to_date STAMP TEXT PATH...: STAMP says TEXT and nothing in PATH... is newer.
up_to_date() {
    local stamp=$1 text=$2
    shift 2
    [ -f "$stamp" ] && [ "$(<"$stamp")" = "$text" ] \
        && [ -z "$(find "$@" -name __pycache__ -prune -o -newer "$stamp" -print -quit)" ]
}

# make_venv DIR PYTHON
make_venv() {
    local dir=$1 python=$2 version
    version=$("$python" -VV)
    [ -x "$dir/bin/python" ] && [ "$(cat "$dir/.python" 2>/dev/null)" = "$version" ] && return
    say "virtual environment $dir: $version"
    rm -rf "$dir"
    "$python" -m venv "$dir"
    # pip 25.1 knows dependency groups; setuptools, because we build without isolation.
    "$dir/bin/python" -m pip install -qq --upgrade 'pip>=25.1' 'setuptools>=77'
    echo "$version" >"$dir/.python"
}

# install_groups DIR GROUP...: the dependency groups of pyproject.toml.
install_groups() {
    local dir=$1 group
    shift
    for group; do
        up_to_date "$dir/.group-$group" "$group" pyproject.toml && continue
        say "dependencies for $group in $dir"
        "$dir/bin/python" -m pip install -qq --group "$group"
        echo "$group" >"$dir/.group-$group"
    done
}

# install_hotloop DIR [--editable]: built again when its sources or the kind of build change.
install_hotloop() {
    local dir=$1 editable=${2-} kind sources=(src setup.py pyproject.toml)
    kind="debug=${HOTLOOP_DEBUG-} sanitize=${HOTLOOP_SANITIZE-} werror=${HOTLOOP_WERROR-}"
    kind+=" portable=${HOTLOOP_PORTABLE-} $editable"
    [ "$editable" ] || sources+=(python/hotloop/*.py*)
    up_to_date "$dir/.hotloop" "$kind" "${sources[@]}" && return
    say "building hotloop in $dir"
    echo "$kind" >"$dir/.hotloop.begun"   # a source saved during the build is newer than this
    "$dir/bin/python" -m pip install -qq --no-build-isolation --no-deps ${editable:+"$editable"} .
    mv "$dir/.hotloop.begun" "$dir/.hotloop"
}
