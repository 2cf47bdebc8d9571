"""Which path is answered by whom, and in which form an error is written."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import unquote

from job.demo.object_store import batch, downloads, json_api
from job.demo.object_store.contents import Contents
from job.demo.object_store.errors import ApiError
from job.demo.object_store.uploads import Uploads
from job.demo.object_store.wire import Request, Response
from job.demo.object_store.xml_api import XmlApi

JSON_ROOTS = ("/storage/v1/", "/upload/storage/v1/", "/download/storage/v1/", "/batch")


class Router:
    """Answers requests, whatever they carry; unforeseen errors alone get out."""

    def __init__(self, contents: Contents) -> None:
        uploads = Uploads(contents)
        self._xml = XmlApi(contents)
        bucket, item = "/storage/v1/b/{}", "/storage/v1/b/{}/o/{}"
        table: tuple[tuple[str, str, Callable[..., Response]], ...] = (
            ("GET", item, json_api.get_object),
            ("GET", "/download" + item, downloads.media),
            ("PATCH", item, json_api.patch_object),
            ("PUT", item, json_api.update_object),
            ("DELETE", item, json_api.delete_object),
            ("POST", item + "/compose", json_api.compose),
            ("POST", item + "/rewriteTo/b/{}/o/{}", json_api.rewrite),
            ("POST", item + "/copyTo/b/{}/o/{}", json_api.copy),
            ("GET", bucket + "/o", json_api.list_objects),
            ("GET", "/storage/v1/b", json_api.list_buckets),
            ("POST", "/storage/v1/b", json_api.create_bucket),
            ("GET", bucket, json_api.get_bucket),
            ("PATCH", bucket, json_api.patch_bucket),
            ("DELETE", bucket, json_api.delete_bucket),
            ("GET", bucket + "/iam/testPermissions", json_api.test_permissions),
            ("POST", "/upload" + bucket + "/o", lambda _, request, name: uploads.start(request, name)),
            ("PUT", "/upload" + bucket + "/o", lambda _, request, name: uploads.resume(request, name)),
            ("DELETE", "/upload" + bucket + "/o", lambda _, request, name: uploads.cancel(request, name)),
            ("POST", "/batch/storage/v1", lambda _, request: batch.run(request, self.answer)),
        )
        self._contents = contents
        self._routes = [(method, re.compile(path.replace("{}", "([^/]+)")), handler) for method, path, handler in table]

    def answer(self, request: Request) -> Response:
        try:
            if request.path.startswith(JSON_ROOTS) or request.path == "/storage/v1/b":
                return self._json(request)
            return self._xml.answer(request)
        except ApiError as error:
            if request.path.startswith(JSON_ROOTS) or request.path == "/storage/v1/b":
                return error.as_text() if request.query.get("alt") == "media" else error.as_json()
            return error.as_xml()

    def _json(self, request: Request) -> Response:
        method = "GET" if request.method == "HEAD" else request.method
        for route_method, pattern, handler in self._routes:
            if route_method == method and (match := pattern.fullmatch(request.path)):
                return handler(self._contents, request, *map(unquote, match.groups()))
        raise ApiError(404, "notFound", "Not Found")
