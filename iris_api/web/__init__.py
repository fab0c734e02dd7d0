"""The HTTP interface: a Flask application that answers for one model.

This room owns the routes, authentication, problem documents, the OpenAPI document and the pages. It
may import every room but `training`, `server` and `cli`, and it knows nothing of Gunicorn: any
WSGI server runs it. `iris_api.app.create_app` puts its parts together.

Begin with `routes`, then `request.Exchange`, which holds what is known of a request.
"""
