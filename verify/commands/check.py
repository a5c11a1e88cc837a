"""`certify check CERTIFICATE`: a certificate confirmed or rejected by the small independent checker."""

from __future__ import annotations

import time
from pathlib import Path

from specs.errors import InputError
from verify.commands.codes import NO, YES

__all__ = ["run"]


def run(folder: str) -> int:
    """Confirm a certificate, and say so in one line. Returns the exit code. Raises: InputError: there is none to read."""
    from verify.check.certificate import MANIFEST, PROOF, confirm
    from verify.check.interval import Rejected

    for name in (MANIFEST, PROOF):
        if not (Path(folder) / name).is_file():
            raise InputError(folder, "", f"no {name} in it", "the folder that --certificate wrote", "check the path")
    began = time.monotonic()
    try:
        found = confirm(Path(folder))
    except Rejected as error:
        print(f"rejected {' '.join(str(error).split())}")
        return NO
    said = f"confirmed {found.verdict}{' in float32' if found.float32 else ''} claims={found.claims}"
    if found.level is not None:
        said += f" minimality={found.level} lower={found.lower:g} upper={found.upper:g} refuted={found.refuted}"
        said += f" core={found.core} listed={found.listed}{' complete' if found.complete else ''}"
    print(f"{said} leaves={found.leaves} time={time.monotonic() - began:.2f}s")
    return YES
