"""render.py TEMPLATE TARGET: puts secrets into Funnel's configuration, in memory only, as JSON strings (which are
YAML): no secret steers the document.
"""

import json
import os
import pathlib
import string
import sys

SECRETS = pathlib.Path("/secrets")
values = {"tes_password": (SECRETS / "tes/password").read_text().strip()}
s3 = json.loads((SECRETS / "s3/credentials.json").read_text())
values.update(s3_access=s3["access_key"], s3_secret=s3["secret_key"])
if (SECRETS / "oidc/client-secret").exists():
    values["oidc_secret"] = (SECRETS / "oidc/client-secret").read_text().strip()
text = string.Template(pathlib.Path(sys.argv[1]).read_text()).substitute(
    {name: json.dumps(value) for name, value in values.items()}
)
with os.fdopen(os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
    file.write(text)
