"""requests-oauthlib, which knows nothing of us: the password grant of a token service, a call, and a refresh."""
import os
import sys

from oauthlib.oauth2 import InvalidGrantError, LegacyApplicationClient
from requests_oauthlib import OAuth2Session

address, username = sys.argv[1:]
secret, password, wrong = (os.environ[name] for name in ("CLIENT_SECRET", "PASSWORD", "WRONG_PASSWORD"))
# The issuer's name leads to the gateway's port on this machine, in plain http.
os.environ["OAUTHLIB_INSECURE_TRANSPORT"] = "1"
service, host = f"http://{address}/oauth/token", {"Host": "shop.example"}

session = OAuth2Session(client=LegacyApplicationClient("app"))


def fetch(password):
    return session.fetch_token(service, username=username, password=password, auth=("app", secret), headers=host)


try:
    fetch(wrong)
    sys.exit("a wrong password was taken")
except InvalidGrantError:
    pass
first = fetch(password)
answer = session.get(f"http://{address}/orders", headers=host)
assert answer.status_code == 200, answer.text
again = session.refresh_token(service, auth=("app", secret), headers=host)
assert again["access_token"] != first["access_token"] and again["refresh_token"] != first["refresh_token"]
answer = session.get(f"http://{address}/orders", headers=host)
assert answer.status_code == 200, answer.text
print("done")
