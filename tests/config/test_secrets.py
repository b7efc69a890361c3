import logging
import os
from pathlib import Path

import pytest

from fovea.config import secrets
from fovea.config.secrets import secret_values, without_secrets


@pytest.mark.parametrize(
    "text",
    [
        "+WANDB_API_KEY=hush",
        "+export WANDB_API_KEY='hush hush'",
        "+  api_key: hush",
        '+  "api-key": "hush", "project": "x"',
        "+api_key: |\n+  hush\n+  hush\n",
        "+password = (\n+    'hush'\n+)",
        "logger.wandb.api_key=hush",
        "+logger.wandb={apikey: hush, project: x}",
        "--access-token hush",
        "+os.environ['A_TOKEN'] = 'hush'",
        "+os.environ.setdefault('A_TOKEN', 'hush')",
        "+++ b/src/x.py\n+api_key: str = f'hush'",
        "+Authorization: Bearer hush",
        "https://me:hush@example.org/x.git",
        "https://hush@example.org/x.git",
        "postgresql://me:hush@example.org/db",
        "https://example.org/?token=hush&x=1",
        r"{\"secret\": \"hush\"}",
    ],
)
def test_a_secret_is_hidden_however_it_is_spelled(text: str) -> None:
    assert "hush" not in without_secrets(text, [])
    assert "***" in without_secrets(text, [])


@pytest.mark.parametrize(
    "text",
    [
        "+++ b/src/x.py\n+self.cls_token = nn.Parameter(torch.zeros(1, 1, width))\n+if token: x()",
        "+num_tokens: 196",
        "+api_key: ${oc.env:WANDB_API_KEY}",
        "model.depth=50 data.root=/a/b@c optimizer.lr=0.1",
        "git@example.org:x.git",
    ],
)
def test_values_that_are_not_secret_stay(text: str) -> None:
    assert without_secrets(text, []) == text


def test_a_value_is_hidden_wherever_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("MY_PASSWORD='from dotenv'\nHARMLESS=hello-world\n")
    (tmp_path / "credentials.json").touch()
    monkeypatch.setattr("fovea.config.secrets.PROJECT", tmp_path)
    monkeypatch.setattr("sys.argv", ["train.py", "logger.x.api_key='typed-one'"])
    for name, value in {
        "A_TOKEN": "from-environment",
        "PRIVATE_KEY": "first-line\nsecond-line",
        "A_SECRET": "yes",
        "X_CREDENTIALS": str(tmp_path / "credentials.json"),
    }.items():
        monkeypatch.setenv(name, value)
    for secret in ("from dotenv", "from-environment", "first-line", "second-line", "typed-one"):
        assert without_secrets(f"it says {secret}.", secret_values()) == "it says ***."
    for other in ("hello-world", "yes", str(tmp_path / "credentials.json"), os.getcwd()):
        assert without_secrets(f"it says {other}.", secret_values()) == f"it says {other}."


def test_a_dotenv_that_cannot_be_parsed_is_read_once_and_the_log_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reads: list[object] = []
    read = secrets.dotenv_values
    monkeypatch.setattr(secrets, "dotenv_values", lambda file: reads.append(file) or read(file))
    monkeypatch.setattr(secrets, "PROJECT", tmp_path)
    (tmp_path / ".env").write_text("A_TOKEN=from-dotenv\n'no = line\n")
    handler = logging.StreamHandler()
    handler.setFormatter(secrets.Formatter("%(message)s"))
    monkeypatch.setattr(logging.getLogger(), "handlers", [handler])
    for n in range(3):
        logging.getLogger("a.library").warning("%d: from-dotenv", n)
    assert capsys.readouterr().err.splitlines() == ["0: ***", "1: ***", "2: ***"]
    assert reads == [tmp_path / ".env"]
