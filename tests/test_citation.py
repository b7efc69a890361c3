import tomllib

import yaml

from fovea.config.resolvers import PROJECT


def test_the_citation_names_the_version_and_licence_of_the_package() -> None:
    cited = yaml.safe_load((PROJECT / "CITATION.cff").read_text("utf-8"))
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))["project"]
    assert (cited["version"], cited["license"]) == (project["version"], project["license"])
