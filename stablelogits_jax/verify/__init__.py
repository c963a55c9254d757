"""Checks every public function against its textbook formula: `python -m stablelogits_jax.verify`."""

try:
    import mpmath as mpmath
    import rich as rich
except ImportError as error:
    raise ImportError(
        f"stablelogits_jax.verify needs {error.name}: pip install 'stablelogits_jax[verify]'", name=error.name
    ) from error
