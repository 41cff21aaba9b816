#!/bin/sh
# Says what a build needs and this machine lacks, and how to get it.
python=$1
missing=""
if ! "$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then
    echo "Python 3.11, 3.12 or 3.13 is needed: $("$python" --version 2>&1)"
    echo "  name one: make PYTHON=/path/to/python3.12 …"
    exit 1
fi
"$python" -c 'import ensurepip, venv' 2>/dev/null || missing="$missing python3-venv"
header=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h
[ -f "$header" ] || missing="$missing python3-dev"
command -v g++ >/dev/null || missing="$missing g++"
if [ -n "$missing" ]; then
    echo "This machine lacks:$missing"
    echo "  sudo apt-get install$missing"
    exit 1
fi
