"""The compiled extensions; everything else about the package is in pyproject.toml."""

import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

SANITIZE = os.environ.get("TELEMETRYFLOW_SANITIZE", "")
COMPILE = (
    ["-O1", "-g", f"-fsanitize={SANITIZE}", "-fno-omit-frame-pointer"] if SANITIZE else ["-O3"]
)
LINK = [f"-fsanitize={SANITIZE}"] if SANITIZE else []
JOBS = os.cpu_count() or 1
# A fault in the codec is made hard to use; test_hardening.py looks for it in what was built.
HARDENING = [
    *("-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=3"),
    *("-fstack-protector-strong", "-fstack-clash-protection"),
]
if SANITIZE:
    HARDENING = []

extensions = [
    Extension(
        f"ingest.codec.{source.stem}",
        [str(source)],
        language="c++",
        extra_compile_args=["-std=c++17", "-fno-strict-aliasing", *COMPILE, *HARDENING],
        extra_link_args=["-Wl,-z,relro,-z,now", *LINK],
    )
    for source in sorted(Path("ingest/codec").glob("*.pyx"))
]

setup(
    ext_modules=cythonize(
        extensions,
        build_dir="build/cython",
        nthreads=JOBS,
        compiler_directives={
            "language_level": 3,
            "boundscheck": False,
            "wraparound": False,
            "cdivision": True,
            "initializedcheck": False,
            "nonecheck": False,
        },
    ),
    options={"build_ext": {"parallel": JOBS}},
)
