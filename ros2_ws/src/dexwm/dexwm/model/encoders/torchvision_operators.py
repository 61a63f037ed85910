"""Lets torchvision be imported beside a build of PyTorch that its operators were not made for."""

from __future__ import annotations

import torch

# What torchvision's registrations refer to on import, as its own library declares it.
_SCHEMAS = {
    'nms': 'nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor',
    'qnms': 'qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor',
}
_definitions: list[torch.library.Library] = []


def define_missing_torchvision_operators() -> None:
    """Declare the operators that `import torchvision` fails without; call it before timm.

    torchvision's wheel is made for PyTorch with CUDA; beside the CPU build its compiled operators
    can't be loaded, and importing it stops at `operator torchvision::nms does not exist`. None of
    them is used here. Where they are there, nothing is done.
    """
    missing = [
        schema for name, schema in _SCHEMAS.items() if not hasattr(torch.ops.torchvision, name)
    ]
    if missing and not _definitions and not _loads():
        # Kept, because the definitions end with the object.
        _definitions.append(torch.library.Library('torchvision', 'FRAGMENT'))
        for schema in missing:
            _definitions[0].define(schema)


def _loads() -> bool:
    """Whether torchvision brings its operators itself."""
    try:
        import torchvision  # type: ignore[import-untyped]  # noqa: F401
    except RuntimeError:
        return False
    return True
