"""Python stubs made from `proto/` with grpcio-tools, into a temporary folder."""

import atexit
import pathlib
import shutil
import sys
import tempfile

from grpc_tools import protoc

PROTO = pathlib.Path(__file__).resolve().parents[3] / "proto"


def generate() -> pathlib.Path:
    """Generates the stubs and puts them on the import path; gives their folder."""
    out = pathlib.Path(tempfile.mkdtemp(prefix="tutti-stubs-"))
    atexit.register(shutil.rmtree, out, True)
    files = [str(path.relative_to(PROTO)) for path in sorted(PROTO.rglob("*.proto"))]
    well_known = pathlib.Path(protoc.__file__).parent / "_proto"
    arguments = ["protoc", f"-I{PROTO}", f"-I{well_known}", f"--python_out={out}", f"--grpc_python_out={out}", *files]
    if protoc.main(arguments) != 0:
        raise RuntimeError("the protos could not be compiled")
    sys.path.insert(0, str(out))
    return out


generate()
