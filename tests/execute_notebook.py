"""Execute a notebook in a kernel of this very interpreter: python execute_notebook.py NOTEBOOK RESULT. In a process of its own:
clients of kernels leave sockets open, which pytest would end the tests for."""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient


class ThisKernel(AsyncKernelManager):
    """Without folders to look in, "python3" is the kernel of the ipykernel that is installed beside the tests."""

    def _kernel_spec_manager_default(self) -> KernelSpecManager:
        return KernelSpecManager(kernel_dirs=[])


if __name__ == "__main__":
    source, result = map(Path, sys.argv[1:])
    notebook = nbformat.read(source, as_version=4)
    client = NotebookClient(notebook, timeout=600, kernel_name="python3", kernel_manager_class=ThisKernel)
    client.execute(cwd=str(source.parent))
    nbformat.write(notebook, result)
