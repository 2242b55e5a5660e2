#!/bin/sh
# Say which system packages are missing, all at once, and leave with 2. Installs nothing.
# Usage: prerequisites.sh PYTHON
python=${1:-python3}
missing=
wrong=

if ! command -v "$python" >/dev/null 2>&1; then
    missing="python3 python3-venv"
elif ! "$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null; then
    wrong="$python is $("$python" --version 2>&1); Outlay runs on Python 3.11, 3.12 and 3.13.
Name another one: make PYTHON=python3.12 ..."
elif ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    missing="python3-venv"
fi

if ! command -v node >/dev/null 2>&1; then
    missing="$missing nodejs"
elif ! node -e 'process.exit(Number(process.versions.node.split(".")[0]) < 18 ? 1 : 0)' 2>/dev/null; then
    wrong="$wrong${wrong:+
}node is $(node --version 2>&1); the local chain's tools need Node.js 18 or newer."
fi
command -v npm >/dev/null 2>&1 || missing="$missing npm"
command -v git >/dev/null 2>&1 || missing="$missing git"

[ -z "$missing$wrong" ] && exit 0
[ -n "$wrong" ] && printf '%s\n' "$wrong" >&2
[ -n "$missing" ] && printf 'Missing on this machine. On Debian or Ubuntu run, as root:\n    apt install %s\n' \
    "$(echo $missing)" >&2
exit 2
