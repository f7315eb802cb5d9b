"""FLOPs of a product are 2mkn, however XLA writes it."""

from __future__ import annotations

import pytest

from mtm.scale import hlo, products


def count(*lines: str) -> int:
  text = "\n".join(["ENTRY %main (x: f32[]) -> f32[] {", *(f"  {line}" for line in lines), "}"])
  computation = hlo.parse(text).computations["main"]
  return products.flops(computation.root, computation)


@pytest.mark.parametrize(
  "left, right, out, rest",
  [
    # [8, 16] · [16, 4], as a convolution without a window.
    ("bf16[8,16]", "bf16[16,4]", "bf16[8,4]", "dim_labels=bf_io->bf"),
    ("bf16[16,8]", "bf16[16,4]", "bf16[8,4]", "dim_labels=fb_io->bf"),
    # Two axes of the kernel, [16, (2, 2)], as a window that slides over padding: half is nothing.
    (
      "bf16[8,16,1]", "bf16[16,2,2]", "bf16[8,2,2]",
      "window={size=2 pad=1_1 rhs_reversal=1}, dim_labels=bf0_i0o->b0f",
    ),
    # Two contracted axes, (2, 8), as a window as large as what it stands on.
    ("bf16[8,2,8]", "bf16[2,8,4]", "bf16[8,1,4]", "window={size=2}, dim_labels=b0f_0io->b0f"),
  ],
)  # fmt: skip
def test_a_convolution_counts_only_what_meets(left: str, right: str, out: str, rest: str) -> None:
  value = count(
    f"%l = {left} parameter(0)", f"%r = {right} parameter(1)",
    f"ROOT %c = {out} convolution(%l, %r), {rest}",
  )  # fmt: skip
  assert value == 2 * 8 * 16 * 4


def test_a_batched_dot() -> None:
  value = count(
    "%l = f32[3,8,16] parameter(0)", "%r = f32[3,16,4] parameter(1)",
    "ROOT %d = f32[3,8,4] dot(%l, %r), lhs_batch_dims={0}, lhs_contracting_dims={2},"
    " rhs_batch_dims={0}, rhs_contracting_dims={1}",
  )  # fmt: skip
  assert value == 3 * 2 * 8 * 16 * 4


def test_what_is_no_product_has_none() -> None:
  assert count("ROOT %a = f32[3]{0} add(%x, %y)") == 0
