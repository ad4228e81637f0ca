"""imgpipe.addresses: no secret in params.yaml or in a message, and no file outside its folder."""

from pathlib import Path

import pytest

from imgpipe.addresses import find_secret, hide_secrets, is_address, local_path


@pytest.mark.parametrize(
    "text",
    ["https://host", "https://host/a.zip?id=3", "https://host:8443/a b", "https://[::1]/x@y"],
)
def test_addresses(text):
    assert is_address(text)
    assert find_secret(text) is None


@pytest.mark.parametrize(
    "text",
    ["http://host/x", "https:///x", "https://host:port/x", "https://[x/", "https://h/\n", "/x"],
)
def test_what_is_none(text):
    assert not is_address(text)


@pytest.mark.parametrize(
    "text",
    [
        "https://me:hidden@host/x",
        "https://hidden@host/x",
        "http://me:hidden@host/x",
        "https://me:hid/hidden@host/x",
        "https://me:hid#hidden@host/x",
        "https://me:hid?hidden@host/x",
    ],
)
def test_a_login_is_refused(text):
    assert "must not hold a login" in find_secret(text) and "~/.netrc" in find_secret(text)
    assert hide_secrets(f"at {text}, twice {text}") == "at {0}, twice {0}".format(
        f"{text.partition(':')[0]}://***@host/x"
    )


@pytest.mark.parametrize(
    "name",
    [
        "token",
        "access_token",
        "X-Amz-Signature",
        "X-Amz-Credential",
        "x-goog-signature",
        "sig",
        "SIG",
        "Signature",
        "key",
        "apiKey",
        "api_key",
        "rlkey",
        "AWSAccessKeyId",
        "secret",
        "client-secret",
        "password",
        "passwd",
        "pwd",
        "auth",
        "authToken",
        "Authorization",
        "credentials",
        "jwt",
        "%74oken",
    ],
)
def test_a_secret_in_a_query_is_refused(name):
    text = f"https://host/x.zip?id=3&{name}=hidden"
    assert "must not hold the key or password" in find_secret(text)
    assert hide_secrets(text) == f"https://host/x.zip?id=***&{name}=***"


@pytest.mark.parametrize("name", ["id", "design", "author", "download", "dl", "keyboard", "path"])
def test_other_queries_are_not(name):
    assert find_secret(f"https://host/x.zip?{name}=3") is None


def test_a_fragment_is_refused():
    assert find_secret("https://host/x.zip#hidden").startswith("must not hold a #")
    assert hide_secrets("https://host/x.zip#hidden") == "https://host/x.zip#***"


@pytest.mark.parametrize("text", ["/data/c#/me@home/x?key=1", "~/a.zip", "imagenet", "C#"])
def test_paths_are_no_matter(text):
    assert find_secret(text) is None


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("with url: /x?sig=hidden&t=hidden (Caused by", "with url: /x?sig=***&t=*** (Caused by"),
        ("https://host/x?hidden", "https://host/x?***"),
        ("'https://me:hidden@host/?a=hidden', 'b'", "'https://***@host/?a=***', 'b'"),
        ("E: http://me:hidden@proxy:3128 is down", "E: http://***@proxy:3128 is down"),
    ],
)
def test_secrets_are_hidden_wherever_they_stand(text, shown):
    assert hide_secrets(text) == shown


@pytest.mark.parametrize(
    "text",
    ["https://host/pkg@1.0/x.zip: 404", "did you mean x? no", "https://host: closed, me@x", "a#b"],
)
def test_what_is_no_secret_is_shown(text):
    assert hide_secrets(text) == text


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("photos.tar.gz?download=1", "photos.tar.gz"),
        ("a/..%2f..%2fx.zip", "x.zip"),
        ("a/..%5C..%5Cx.zip", "x.zip"),
        ("", "download"),
        ("a/..", "download"),
        ("a/%2e%2e", "download"),
        ("a/.", "download"),
        (".hidden.zip", "hidden.zip"),
        ("a%00b%0Ac.zip", "a_b_c.zip"),
        ("Z%C3%BCge 1.zip", "Züge_1.zip"),
        ("folder/", "folder"),
    ],
)
def test_a_file_s_name_is_the_last_step_made_safe(path, name):
    place = local_path(f"https://host/{path}", Path("downloads"))
    assert place.name == name
    assert place.parent.parent == Path("downloads")


def test_a_long_name_keeps_its_end():
    name = local_path(f"https://host/{'ü' * 500}.tar.gz", Path("downloads")).name
    assert name.endswith("ü.tar.gz") and len(f".{name}.version.part".encode()) < 255


def test_each_address_has_a_place_of_its_own():
    one, other = (local_path(f"https://host/{d}/x.zip", Path("d")) for d in "ab")
    assert one.name == other.name and one != other
