"""The table: a row for every public function. Tests and report follow from it; to add a function is to add a row."""

from stablelogits_jax.verify._binary_specs import BINARIES
from stablelogits_jax.verify._categorical_specs import CATEGORICAL
from stablelogits_jax.verify._contrastive_specs import CONTRASTIVE
from stablelogits_jax.verify._divergence_specs import DIVERGENCES
from stablelogits_jax.verify._elementwise_specs import ELEMENTWISE
from stablelogits_jax.verify._linear_specs import LINEAR
from stablelogits_jax.verify._modulated_specs import MODULATED
from stablelogits_jax.verify._preference_specs import PREFERENCES
from stablelogits_jax.verify._row_specs import ROWS

SPECS = (*ELEMENTWISE, *ROWS, *BINARIES, *CATEGORICAL, *DIVERGENCES, *MODULATED, *CONTRASTIVE, *PREFERENCES, *LINEAR)
