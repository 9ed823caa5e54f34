"""Run directories in buckets. Machines mount the bucket, because a run locks, appends to and renames files."""

import dataclasses
import re
from typing import Literal

from plumbline import UserError

_FORMS = {
    "gs": re.compile(r"(?P<source>gs://(?P<name>[\w.-]+))/*(?P<path>.*)"),
    "s3": re.compile(r"(?P<source>s3://(?P<name>[\w.-]+))/*(?P<path>.*)"),
    "azure": re.compile(r"(?P<source>https://[\w-]+\.blob\.core\.windows\.net/(?P<name>[\w$-]+))/*(?P<path>.*)"),
}


@dataclasses.dataclass(frozen=True)
class Bucket:
    """A folder in a bucket.

    Attributes:
      store: "gs" (Google Cloud), "s3" (AWS) or "azure".
      source: URL of the bucket.
      name: of the bucket; on Azure of the container.
      path: of the folder in it.
    """

    store: Literal["gs", "s3", "azure"]
    source: str
    name: str
    path: str

    @property
    def mount(self) -> str:
        """Where machines mount the bucket."""
        return f"/mnt/{self.name}"

    @property
    def workdir(self) -> str:
        """Path of the folder on the machines."""
        return f"{self.mount}/{self.path}"


def parse_bucket(workdir: str) -> Bucket | None:
    """Returns the bucket of a run directory; None if it is a path.

    Raises:
      UserError: it is another kind of URL, or names no folder in the bucket.
    """
    for store, form in _FORMS.items():
        if match := form.fullmatch(workdir):
            path = match["path"].strip("/")
            if not path:
                raise UserError(f"--workdir: '{workdir}' is a whole bucket; name a folder in it: {match['source']}/RUN")
            return Bucket(store, match["source"], match["name"], path)
    if "://" in workdir:
        raise UserError(
            f"--workdir: '{workdir}' is not a bucket that can be mounted; expected gs://BUCKET/RUN, s3://BUCKET/RUN, "
            "https://ACCOUNT.blob.core.windows.net/CONTAINER/RUN or a path"
        )
    return None
