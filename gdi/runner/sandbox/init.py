"""The first process of a sandbox that podman or docker made: runs the command it is told, reports its end, and ends
with whoever told it.

Mounted into the container and run by a bare interpreter, so it imports nothing but the standard library. Its end is the
container's end, and it ends when the unix socket to the host (the leash, `runner.py`) closes: no kill of the service,
however hard, leaves a container.
"""

import contextlib
import ctypes
import errno
import json
import os
import selectors
import signal
import socket
import struct
from typing import Any

LEASH = "/run/gdi/leash"
PR_SET_DUMPABLE, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 4, 22, 2
CLONE_NEWUSER = 0x10000000
# AUDIT_ARCH_* and the numbers of clone, unshare, setns, clone3 (linux/audit.h, asm/unistd.h).
CALLS = {"x86_64": (0xC000003E, 56, 272, 308, 435), "aarch64": (0xC00000B7, 220, 97, 268, 435)}
libc = ctypes.CDLL(None, use_errno=True)


class Program(ctypes.Structure):
    """struct sock_fprog"""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def no_namespaces() -> None:
    """A seccomp filter beside the engine's own (podman's lets user namespaces be made): no new namespaces, no system
    calls of another architecture.

    clone3 hides its flags from filters: it is "not implemented", and libraries then take clone. OSError where the
    kernel does not take the filter.
    """
    if os.uname().machine not in CALLS:
        raise OSError(errno.ENOSYS, f"sandboxes by podman or docker are known on {' and '.join(CALLS)} only")
    arch, clone, unshare, setns, clone3 = CALLS[os.uname().machine]
    allow, refuse, unknown = 0x7FFF0000, 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS
    load, equal, above, either, end = (
        0x20,
        0x15,
        0x35,
        0x45,
        0x06,
    )  # of BPF: A = data[k], A == k, A >= k, A & k, return k
    # (code, how many steps to skip if true, if not, k); struct seccomp_data: number at 0, architecture at 4, first
    # argument at 16
    steps = [
        (load, 0, 0, 4),
        (equal, 0, 9, arch),
        (load, 0, 0, 0),
        (above, 7, 0, 0x40000000),  # x32
        (equal, 7, 0, clone3),
        (equal, 5, 0, unshare),
        (equal, 4, 0, setns),
        (equal, 0, 2, clone),
        (load, 0, 0, 16),
        (either, 1, 0, CLONE_NEWUSER),
        (end, 0, 0, allow),
        (end, 0, 0, refuse),
        (end, 0, 0, unknown),
    ]
    packed = b"".join(struct.pack("HBBI", *step) for step in steps)
    if libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(Program(len(steps), packed)), 0, 0):
        raise OSError(ctypes.get_errno(), "the system-call filter is refused")


def receive(leash: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """What to run, and the descriptors that become its standard input, output and error."""
    head, descriptors, _, _ = socket.recv_fds(leash, 4, 3)
    data = b""
    while len(head) < 4 or len(data) < struct.unpack("!I", head)[0]:
        chunk = leash.recv(65536 if len(head) == 4 else 4 - len(head))
        if not chunk:
            raise EOFError
        head, data = (head, data + chunk) if len(head) == 4 else (head + chunk, data)
    order: dict[str, Any] = json.loads(data)
    return order, descriptors


def child(order: dict[str, Any], descriptors: list[int]) -> None:
    """Becomes the command; never returns."""
    try:
        os.setsid()
        for number, descriptor in enumerate(descriptors):
            os.dup2(descriptor, number)
        os.closerange(3, 1024)
        no_namespaces()
        for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(number, signal.SIG_DFL)
        os.execve(order["argv"][0], order["argv"], order["environment"])  # noqa: S606
    except OSError as error:
        os.write(2, f"sandbox: {error}\n".encode())
    finally:
        os._exit(125)


def ended(pid: int) -> int | None:
    """Collects whatever ended; the command's exit code (128 + signal as a shell says it) once it is among them."""
    while True:
        try:
            found, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return None
        if found == 0:
            return None
        if found == pid:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def main() -> int:
    # Nothing that runs here beside it may look into it: it holds the leash.
    libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    leash = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    leash.connect(LEASH)  # refused: the service ended before the container began, and so does this
    order, descriptors = receive(leash)

    def say(**what: object) -> None:
        leash.sendall(json.dumps(what).encode() + b"\n")

    try:
        os.chdir(order["workdir"])
    except OSError as error:
        say(problem=f"the work directory {order['workdir']} cannot be entered: {error.strerror}")
        return 125
    wake, woken = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    pid = os.fork()
    if pid == 0:
        child(order, descriptors)
    for descriptor in descriptors:
        os.close(descriptor)
    say(started=True)
    with selectors.DefaultSelector() as waiting:
        waiting.register(leash, selectors.EVENT_READ)
        waiting.register(wake, selectors.EVENT_READ)
        while True:
            for key, _ in waiting.select():
                if key.fileobj is leash:
                    numbers = leash.recv(64)
                    if not numbers:
                        return 128 + signal.SIGKILL
                    for number in numbers:
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(pid, number)
                    continue
                os.read(wake, 4096)
                code = ended(pid)
                if code is not None:
                    say(code=code)
                    return code


if __name__ == "__main__":
    # _exit: the interpreter's own tidying would only give what is left here a moment more to live.
    os._exit(main())
