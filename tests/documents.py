"""Examples of the documents, as a reader would save them."""

from __future__ import annotations

import re
from pathlib import Path


def example(document: Path, cls: str, folder: Path) -> str:
    """Write a document's example of a method to a file; returns it as `--method` takes it."""
    blocks = re.findall(r"```python\n(.*?)```", document.read_text(), re.DOTALL)
    (code,) = (block for block in blocks if f"class {cls}(Method)" in block)
    path = folder / "my_method.py"
    path.write_text(code)
    return f"{path}:{cls}"
