"""What goes into a model and what comes out of it.

This room owns the columns and classes of a contract, the validation of rows against it, the
outcome of a prediction, and the reference that live rows are compared with. It knows no file, no
estimator and no HTTP: NumPy and Pydantic are all that it imports. Every other room may import it.

Begin with `contract.Contract`, then `rows.RequestSchema` and `tasks.Outcome`.
"""
