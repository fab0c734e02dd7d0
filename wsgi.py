"""The application for `gunicorn wsgi:app` and `flask --app wsgi`."""

import sys

from iris_api import create_app
from iris_api.errors import OperatorError

try:
    app = create_app()
except OperatorError as error:
    sys.exit(f"iris-api: {error}")
