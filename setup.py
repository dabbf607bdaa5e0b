"""Builds src/*.c into hotloop._core; everything declarative is in pyproject.toml.

What it reads from the environment:
  HOTLOOP_DEBUG=1                     no optimisation, assertions on
  HOTLOOP_SANITIZE=address,undefined  that, instrumented by these sanitizers of gcc and clang
  HOTLOOP_WERROR=1                    warnings are errors (both of the above imply it)
  HOTLOOP_PORTABLE=1                  without what only Linux has, to test that (see compat.h)
  LIBUV_CFLAGS, LIBUV_LIBS            where libuv is, instead of asking pkg-config
"""

import os
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from glob import glob

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext


class BuildCore(build_ext):
    """Looks for libuv only when something is compiled: an sdist needs none."""

    def build_extension(self, ext):
        libuv_cflags, libuv_libs = find_libuv()
        mode_cflags, mode_libs = mode_flags()
        ext.extra_compile_args = [*common_cflags(), *mode_cflags, *libuv_cflags]
        ext.extra_link_args = [*mode_libs, *libuv_libs]
        self.compiler.compile = side_by_side(self.compiler.compile)
        super().build_extension(ext)


def side_by_side(compile_in_turn):
    """The compiler's compile(), with as many files at a time as there are processors."""

    def compile_all(sources, **options):
        first, *rest = sources
        objects = compile_in_turn([first], **options)  # makes the folders
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for more in pool.map(lambda source: compile_in_turn([source], **options), rest):
                objects += more
        return objects

    return compile_all


def find_libuv():
    """The flags to compile and to link with libuv."""
    cflags, libs = os.environ.get("LIBUV_CFLAGS"), os.environ.get("LIBUV_LIBS")
    if cflags is not None or libs is not None:
        return shlex.split(cflags or ""), shlex.split(libs or "-luv")
    try:
        return pkg_config("--cflags"), pkg_config("--libs")
    except (OSError, subprocess.CalledProcessError):
        sys.exit(
            "hotloop needs pkg-config and the headers of libuv 1.44 or newer, but pkg-config finds"
            " no such libuv: install libuv1-dev (Debian, Ubuntu), libuv-devel (Fedora),"
            " libuv-dev (Alpine) or libuv (Homebrew)."
        )


def pkg_config(what):
    command = [os.environ.get("PKG_CONFIG", "pkg-config"), what, "libuv >= 1.44"]
    return shlex.split(subprocess.check_output(command, text=True, stderr=subprocess.DEVNULL))


def common_cflags():
    return [
        "-std=c11",
        "-D_GNU_SOURCE",
        "-fvisibility=hidden",
        "-Wall",
        "-Wextra",
        # The API of CPython asks for all three: slots leave fields out, methods ignore
        # arguments, and PyMethodDef wants functions cast.
        "-Wno-missing-field-initializers",
        "-Wno-unused-parameter",
        "-Wno-cast-function-type",
        *(["-DHL_PORTABLE"] if enabled("HOTLOOP_PORTABLE") else []),
    ]


def mode_flags():
    """What this kind of build adds to compiling and to linking."""
    werror = ["-Werror"] if enabled("HOTLOOP_WERROR") else []
    if sanitizers := os.environ.get("HOTLOOP_SANITIZE"):
        sanitize = [f"-fsanitize={sanitizers}", "-fno-sanitize-recover=all"]
        return ["-O1", "-g", "-UNDEBUG", "-fno-omit-frame-pointer", "-Werror", *sanitize], sanitize
    if enabled("HOTLOOP_DEBUG"):
        return ["-O0", "-g3", "-UNDEBUG", "-Werror"], []
    elf = [] if sys.platform == "darwin" else ["-fno-plt"]
    # A task's life goes through most of a processor's cache for code (docs/performance.md).
    optimise = ["-O3", "-flto=auto", "-falign-functions=64"]
    return [*optimise, "-DNDEBUG", *elf, *werror], optimise


def build_base():
    """A folder for each kind of build: setuptools compares times, not flags."""
    kind = "debug" if enabled("HOTLOOP_DEBUG") else "release"
    if sanitizers := os.environ.get("HOTLOOP_SANITIZE"):
        kind = "sanitize-" + sanitizers.replace(",", "-")
    return os.path.join("build", kind + ("-portable" if enabled("HOTLOOP_PORTABLE") else ""))


def enabled(name):
    return os.environ.get(name, "0") not in ("", "0")


setup(
    ext_modules=[
        Extension(
            "hotloop._core",
            sources=sorted(glob("src/*.c")),
            depends=[*sorted(glob("src/*.h")), "setup.py"],
            include_dirs=["src"],
        )
    ],
    cmdclass={"build_ext": BuildCore},
    options={"build": {"build_base": build_base()}},
)
