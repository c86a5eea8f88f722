"""The training step (clause T), derived apart from the single operations in `layers` and `attention`.

Its formulas are written over an arithmetic: `Rounded` has every rounding of the specification, `Exact` none, so that tests can hold the
formulas themselves against fp64 autograd to 1e-10.
"""
