"""How far weights may lie from the float64 reference, absolutely, when all updates are made."""

from __future__ import annotations

TOLERANCE = {
    # Weights below 1 in float32, whose roundoff is 6e-8: what 200 of them add up to.
    "float32": 1e-6,
    # Both sides iterate in bfloat16, but round from inputs that differ by float32's roundoff. Once
    # in some ten thousand roundings they take different neighbours, 2^-8 to 2^-7 apart: up to 8e-6
    # of an update of 1e-3, and less than three times in 50 updates of a small matrix.
    "bfloat16 on both sides": 2e-5,
    # bfloat16's roundoff, 2^-8, of 50 updates of 1e-3, as if all errors pointed the same way.
    "bfloat16 on one side": 2e-4,
}
