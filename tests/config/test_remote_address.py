"""Addresses: their secrets reach the downloader, and nothing that is shown or stored."""

from __future__ import annotations

import pickle
from urllib.parse import quote

import pytest

from flexbert.config.remote_address import RemoteAddress
from flexbert.errors import UserError

SECRET = "hunter2-hunter2"
AS_THEY_ARE = [
    "/mnt/corpora/web",
    "corpora/a@b",
    "s3://bucket/folder",
    "s3://bucket/a@b?version=3",
    "sftp://me@storage.example:22/corpora/web",
    "sftp://storage.example:22/corpora/a@b",
    "oci://bucket@namespace/folder",
    "hf://datasets/owner/name@main/folder",
    "azure://account.blob.core.windows.net/container/folder",
    "dbfs:/Volumes/folder",
]
SPELLED_OUT = {
    f"sftp://me:{SECRET}@host:22/x": "sftp://me:***@host:22/x",
    f"sftp://me:a@{SECRET}@host/x": "sftp://me:***@host/x",
    f"sftp://me:a/{SECRET}@host/x": "sftp://me:***@host/x",
    f"sftp://me:a?#{SECRET}@host/x": "sftp://me:***@host/x",
    f"sftp://:{SECRET}@host/x": "sftp://:***@host/x",
    f"s3://b/c?X-Amz-Signature={SECRET}&a=1": "s3://b/c?X-Amz-Signature=***&a=1",
    f"s3://b/c?a=1&sig={SECRET}": "s3://b/c?a=1&sig=***",
    f"gs://b/c?access_token={SECRET}#x": "gs://b/c?access_token=***#x",
    f"gs://b/c?Password={SECRET};key={SECRET}": "gs://b/c?Password=***;key=***",
}


@pytest.mark.parametrize("text", AS_THEY_ARE)
def test_addresses_without_secrets_stay_as_they_are(text: str) -> None:
    address = RemoteAddress.parse(text)
    assert (address.address, str(address), address.plain()) == (text, text, text)


@pytest.mark.parametrize(("text", "shown"), SPELLED_OUT.items())
def test_secrets_are_neither_shown_nor_stored(text: str, shown: str) -> None:
    address = RemoteAddress.parse(text)
    assert address.address == text
    assert (str(address), address.plain(), repr(address)) == (
        shown,
        shown,
        f"RemoteAddress({shown!r})",
    )
    assert pickle.loads(pickle.dumps(address)).address == text
    with pytest.raises(UserError, match="not stored; put it in the environment"):
        _ = RemoteAddress.parse(shown).address


@pytest.mark.parametrize(
    "text",
    [
        "sftp://me:${oc.env:SECRET}@host/x",
        "s3://b/${oc.env:SECRET}/c?sig=${oc.env:SECRET}",
        "${oc.env:SECRET}",
    ],
)
def test_references_are_resolved_for_the_downloader_alone(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", SECRET)
    address = RemoteAddress.parse(text)
    assert address.address == text.replace("${oc.env:SECRET}", SECRET)
    assert (str(address), address.plain()) == (text, text)
    monkeypatch.delenv("SECRET")
    with pytest.raises(UserError, match="no variable SECRET; set it"):
        _ = address.address


@pytest.mark.parametrize("text", [*SPELLED_OUT, "sftp://me:${oc.env:SECRET}@host/x"])
def test_messages_of_others_are_redacted(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", SECRET)
    address = RemoteAddress.parse(text)
    begin = address.address.index(SECRET)
    # The whole secret, as it stands between its delimiters.
    for message in (
        f"cannot open {address.address}/corpus.json",
        f"refused: {address.address!r}",
        f"bad {address.address[begin - 2 :]}",
        f"login {SECRET} failed" if f":{SECRET}@" in address.address else address.address,
        quote(address.address),
        quote(address.address, safe=""),
    ):
        assert SECRET not in address.redact(message)


@pytest.mark.parametrize("node", [None, 3, "", ["s3://a"], {"a": 1}, True])
def test_what_is_no_address(node: object) -> None:
    with pytest.raises(ValueError, match="expected a folder or an address"):
        RemoteAddress.parse(node)
