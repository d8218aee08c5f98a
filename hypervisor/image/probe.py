"""placeholder until the real one lands"""
import json, subprocess
from dataclasses import dataclass
from pathlib import Path
@dataclass(frozen=True)
class Facts:
    format: str
    virtual_size: int
def probe(file: Path) -> Facts:
    d = json.loads(subprocess.check_output(["qemu-img", "info", "--output=json", str(file)]))
    return Facts(d["format"], d["virtual-size"])
