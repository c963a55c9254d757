"""Why a function takes longer than the bound of `run.py` allows: what the time buys, and where XLA:CPU spends it."""

from typing import NamedTuple

VALUE, GRADIENT = "value", "value and gradient"


class Reason(NamedTuple):
    """A reason holds up to a ratio, for the passes, the types and the shapes it names; None stands for all of them."""

    text: str
    ceiling: float
    measure: str | None = None
    dtype: str | None = None
    shapes: tuple[tuple[int, ...], ...] | None = None

    def holds(self, ratio: float, measure: str, dtype: str, shape: tuple[int, ...]) -> bool:
        return (
            ratio <= self.ceiling
            and self.measure in (None, measure)
            and self.dtype in (None, dtype)
            and (not self.shapes or shape in self.shapes)
        )


_MASKED_SUMS = Reason(
    "two more masked sums over the row keep the derivative of a class with p > 1/2; XLA:CPU writes their operands out",
    2.4,
    measure=GRADIENT,
)
_SHORT_ROWS = Reason(
    "in the compiled code the guards, log1p and expm1 of each row are loops of their own, beside ten classes",
    2.6,
    shapes=((8192, 10),),
)
_TWO_SUMS = Reason(
    "what is below the top and the tops are summed apart, in pairs, so that the rest of a sure row keeps its digits", 2
)
_PAGES = Reason(
    "exponentials in float32, an array of 32 MiB, the pages of which the system brings anew for each call",
    2.4,
    measure=VALUE,
    dtype="bfloat16",
    shapes=((256, 32768),),
)
_IN_PIECES = Reason(
    "rows are summed in pieces, written out between, with the number of the label or of the hot class set to 0 before",
    1.3,
    measure=GRADIENT,
)
_IN_FLOAT32 = Reason(
    "exp is computed in float32, by the peer in bfloat16, and the row is converted once more, to count its tops",
    4,
    measure=VALUE,
    dtype="bfloat16",
)
_EXACT_DIFFERENCE = Reason(
    "log1p of the exact difference keeps the digits at p = q, and subnormal numbers are read from their bits", 2.8
)
_ONE_ROUNDING = Reason("float32 is computed in double-float and rounded once, in value and slope", 4.5, dtype="float32")
_COMPENSATED = Reason(
    "log(1 + u) with what 1 + u leaves out: a logarithm and a quotient for log1p", 2.2, dtype="bfloat16"
)
_OWN_SLOPE = Reason(
    "the slope is a second exponential and array; the peer's s (1 - s) is made in place of s, and loses the tail",
    2.5,
    measure=GRADIENT,
    dtype="bfloat16",
)
_CAPPED = Reason(
    "tanh by an exponential and a series; XLA:CPU's is a quotient of polynomials, of fewer digits",
    1.8,
)
_TWO_PASSES = Reason(
    "a pass for the mean of the differences of the logits, which keep the digits of near distributions, before one for "
    "a sum of parts that are not negative; of short rows each pass is several loops over few numbers",
    2.1,
)
_BOTH_SLOPES = Reason(
    "the slope in p is made of differences to its largest class, so that nothing cancels: two more sums over arrays "
    "that XLA:CPU writes out, the pages of which the system may bring anew for each call",
    3,
    measure=GRADIENT,
)

REASONS: dict[str, list[Reason]] = {
    "sigmoid": [_ONE_ROUNDING, _OWN_SLOPE],
    "logit": [_ONE_ROUNDING, _COMPENSATED],
    "xlog1py": [_COMPENSATED],
    "entr": [_ONE_ROUNDING, Reason("log(p e) by its exact distance from 1 / e", 2, GRADIENT, "bfloat16")],
    "rel_entr": [_EXACT_DIFFERENCE],
    "logsumexp": [_SHORT_ROWS, _TWO_SUMS, _IN_FLOAT32],
    "logmeanexp": [_SHORT_ROWS, _TWO_SUMS, _IN_FLOAT32],
    "softmax": [_MASKED_SUMS, _SHORT_ROWS, _TWO_SUMS, _PAGES, _IN_FLOAT32],
    "log_softmax": [_MASKED_SUMS, _SHORT_ROWS, _TWO_SUMS],
    "softmax_cross_entropy": [_IN_PIECES],
    "softmax_cross_entropy_with_integer_labels": [_IN_PIECES],
    "softmax_cross_entropy_with_integer_labels, soft_cap": [_CAPPED],
    "softmax_cross_entropy_with_integer_labels, z_loss": [_TWO_SUMS],
    "z_loss": [_SHORT_ROWS, _TWO_SUMS],
    "poly_loss_cross_entropy": [_TWO_SUMS._replace(measure=VALUE)],
    "softmax_focal_loss": [_TWO_SUMS._replace(measure=VALUE), _SHORT_ROWS],
    "softmax_focal_loss_with_integer_labels": [_SHORT_ROWS._replace(ceiling=1.6)],
    "kl_from_logits": [_TWO_PASSES._replace(ceiling=3), _BOTH_SLOPES],
    "distillation_loss": [_TWO_PASSES, _TWO_PASSES._replace(ceiling=2.8, shapes=((8192, 10),))],
    "logit_matching_loss": [
        Reason("whether the variance has lost digits is asked of all rows, by their means, in float32", 1.8)
    ],
    "kl_divergence_with_log_targets": [
        Reason(
            "an absent class takes a selection, which XLA:CPU fuses into no sum: the terms are written out before it",
            1.7,
        )
    ],
    "generalized_kl_divergence": [
        Reason("near q = t, a series of q / t in the value and one of q - 1 in the slope", 1.25, GRADIENT, "float32")
    ],
    "js_divergence": [
        Reason("log(m / p) and log(m / q) are kept to their digits at p = q; the peer takes one log, of m", 2)
    ],
    "bernoulli_kl_from_logits": [
        Reason("a sum of two parts that are not negative, each of which is a series where p and q are near", 1.8, VALUE)
    ],
    "ordinal_cross_entropy": [
        Reason(
            "a third exponential, of the distance of the cutpoints, and what the differences round off; "
            "the peer subtracts sigmoids, of which XLA shares the exponentials with the slope",
            2.8,
        )
    ],
    "ipo_loss": [Reason("the lead is a sum of pairs, of thirty operations beside the peer's five", 2)],
    "sigmoid_contrastive_loss": [
        Reason("the losses of a query are added in fours, as alike ones one after another are rounded alike", 1.45)
    ],
    "kto_loss": [Reason("infinite leads and factors of 0 are asked for, beside an exponential and a quotient", 1.5)],
    "orpo_loss": [Reason("the log of the ratio of 1 - p by its exact difference, and 1 - p by expm1", 1.6)],
}
