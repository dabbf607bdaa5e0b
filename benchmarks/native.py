"""What the benchmark compiles for itself: the load generator and the server in C.

Programs stay in build/benchmarks of the checkout (or a folder of one's own in the temporary one,
if that cannot be written) and are made again when their source, the compiler or the machine change.
"""

import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sysconfig
import tempfile
from pathlib import Path

SOURCES = Path(__file__).with_name("native")


@functools.cache
def load_generator() -> str:
    """The path of the program, which speaks TLS if OpenSSL's headers are here."""
    flags = ["-DOPENSSL"] if not why_no_tls() else []
    libraries = ["-lssl", "-lcrypto"] if flags else []
    return build("load", ["load.c", "http.c", "tls.c"], flags, libraries)


@functools.cache
def server() -> str:
    """The path of the program; ask why_no_server() first."""
    compile_flags, link_flags = libuv_flags()
    return build("server", ["server.c"], compile_flags, link_flags)


@functools.cache
def why_no_compiler() -> str:
    return "" if compiler() else "there is no C compiler"


@functools.cache
def why_no_tls() -> str:
    """A need of workloads whose client speaks TLS."""
    if reason := why_no_compiler():
        return reason
    missing = not has_header("openssl/ssl.h")
    return "OpenSSL's headers are not here (Debian: libssl-dev)" if missing else ""


@functools.cache
def why_no_server() -> str:
    """A need of the limit line."""
    if reason := why_no_compiler():
        return reason
    missing = not has_header("uv.h", *libuv_flags()[0])
    return "libuv's headers are not here (Debian: libuv1-dev)" if missing else ""


@functools.cache
def libuv_flags() -> tuple[list[str], list[str]]:
    """As setup.py finds them: LIBUV_CFLAGS and LIBUV_LIBS, or else pkg-config."""
    given = [os.environ.get(name) for name in ("LIBUV_CFLAGS", "LIBUV_LIBS")]
    if any(given):
        return shlex.split(given[0] or ""), shlex.split(given[1] or "-luv")
    return pkg_config("--cflags"), pkg_config("--libs") or ["-luv"]


def libuv_version() -> str:
    return "".join(pkg_config("--modversion"))


def pkg_config(question: str) -> list[str]:
    if not shutil.which("pkg-config"):
        return []
    command = ["pkg-config", question, "libuv"]
    return subprocess.run(command, check=False, capture_output=True, text=True).stdout.split()


@functools.cache
def compiler() -> str:
    named = (sysconfig.get_config_var("CC") or "cc").split()[0]
    found = (shutil.which(name) for name in (os.environ.get("CC", named), named, "cc", "gcc"))
    return next(filter(None, found), "")


def has_header(name: str, *flags: str) -> bool:
    command = [compiler(), *flags, "-E", "-x", "c", "-", "-o", os.devnull]
    source = f"#include <{name}>\n"
    return not subprocess.run(
        command, check=False, input=source, text=True, capture_output=True
    ).returncode


def build(name: str, sources: list[str], flags: list[str], libraries: list[str]) -> str:
    paths = [SOURCES / source for source in sources]
    command = [compiler(), "-O2", *flags]
    about = [*command, *libraries, platform.platform()]
    about += [path.read_text() for path in sorted(SOURCES.iterdir()) if path.is_file()]
    program = folder() / f"{name}-{hashlib.sha256(repr(about).encode()).hexdigest()[:12]}"
    if not program.exists():
        fresh = program.with_suffix(f".{os.getpid()}")  # several processes may build it at once
        subprocess.run([*command, "-o", fresh, *paths, *libraries], check=True)
        fresh.rename(program)
    return str(program)


@functools.cache
def folder() -> Path:
    try:
        found = SOURCES.parent.parent / "build" / "benchmarks"
        found.mkdir(parents=True, exist_ok=True)
        if os.access(found, os.W_OK):
            return found
    except OSError:
        pass
    found = Path(tempfile.gettempdir()) / f"hotloop-benchmarks-{os.getuid()}"
    found.mkdir(mode=0o700, exist_ok=True)
    if found.stat().st_uid != os.getuid():
        raise PermissionError(f"{found} belongs to somebody else")
    return found
