"""Request bodies to rows, and outcomes to response bodies: one module for each dialect.

A dialect has `decode`, which turns a body into `contract.rows.Rows` or raises what is wrong with
it, and `encode`, which turns a `contract.tasks.Outcome` into a body. It imports the room `contract`
alone and knows neither Flask nor the model, so that all dialects share validation and errors.

Begin with `native`, the JSON of `POST /v1/predict`.
"""
