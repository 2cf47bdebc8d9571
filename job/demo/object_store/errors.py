"""The answers of Cloud Storage to requests that fail: status, reason, and the three forms an error is written in.

The JSON API answers in JSON, media downloads in plain text, the XML API in XML.
Source: https://cloud.google.com/storage/docs/json_api/v1/status-codes and
https://cloud.google.com/storage/docs/xml-api/reference-status.
"""

from __future__ import annotations

import json
from xml.sax.saxutils import escape

from job.demo.object_store.wire import Response

XML_CODES = {
    "invalid": "InvalidArgument",
    "notFound": "NoSuchKey",
    "noSuchBucket": "NoSuchBucket",
    "noSuchUpload": "NoSuchUpload",
    "conflict": "BucketAlreadyExists",
    "conditionNotMet": "PreconditionFailed",
    "requestedRangeNotSatisfiable": "InvalidRange",
    "badDigest": "BadDigest",
    "invalidPart": "InvalidPart",
    "entityTooSmall": "EntityTooSmall",
    "methodNotAllowed": "MethodNotAllowed",
}
"""JSON reason (or a finer one that only the XML API shows) → code of the XML API."""

JSON_REASONS = {
    "noSuchBucket": "notFound",
    "noSuchUpload": "notFound",
    "badDigest": "invalid",
    "invalidPart": "invalid",
    "entityTooSmall": "invalid",
}


class ApiError(Exception):
    """A request that Cloud Storage would refuse.

    Args:
        status: HTTP status; 304 is an "error" too: it ends the request and has no body.
        reason: The word of the JSON API, or a finer one listed in `XML_CODES`.
        message: In Google's wording where clients show it to people.
        headers: Sent with the answer.
    """

    def __init__(self, status: int, reason: str, message: str, *, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message
        self.headers = headers or {}

    def as_json(self) -> Response:
        reason = JSON_REASONS.get(self.reason, self.reason)
        detail = {"message": self.message, "domain": "global", "reason": reason}
        if reason == "conditionNotMet":
            detail |= {"locationType": "header", "location": "If-Match"}
        body = {"error": {"code": self.status, "message": self.message, "errors": [detail]}}
        return self._response("application/json; charset=UTF-8", json.dumps(body, indent=2))

    def as_text(self) -> Response:
        return self._response("text/html; charset=UTF-8", self.message)

    def as_xml(self) -> Response:
        code = XML_CODES.get(self.reason, "InvalidArgument")
        text = f"<Error><Code>{code}</Code><Message>{escape(self.message)}</Message></Error>"
        return self._response("application/xml; charset=UTF-8", "<?xml version='1.0' encoding='UTF-8'?>" + text)

    def _response(self, content_type: str, text: str) -> Response:
        if self.status == 304:
            return Response(304, self.headers)
        return Response(self.status, {"content-type": content_type, **self.headers}, text.encode())


def no_such_bucket() -> ApiError:
    return ApiError(404, "noSuchBucket", "The specified bucket does not exist.")


def no_such_object(bucket: str, name: str) -> ApiError:
    return ApiError(404, "notFound", f"No such object: {bucket}/{name}")


def condition_not_met() -> ApiError:
    return ApiError(412, "conditionNotMet", "At least one of the pre-conditions you specified did not hold.")
