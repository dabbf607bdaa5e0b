"""The loop that the environment names, for uvicorn's workers under gunicorn."""

import os

from uvicorn_worker import UvicornWorker


class Worker(UvicornWorker):
    CONFIG_KWARGS = {"loop": os.environ["ECO_LOOP"], "http": "auto"}


worker_class = Worker
