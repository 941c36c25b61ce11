# SPDX-License-Identifier: Apache-2.0
"""Which paths a rule set wants watched: those that name one file."""

from ruletext import detecting, loaded, rule


def test_watched_paths_are_those_that_name_one_file(tmp_path):
    entries = [
        {"TargetFilename|cased": "/etc/hosts"},
        {"TargetFilename|endswith": ["/.aws/credentials", ".pem", "/logins.json"]},
        {"TargetFilename|startswith": "/etc/cron.d/"},
        {"TargetFilename": "relative"},
        {"SourceFilename": "/etc/source"},
        {"Image": "/usr/bin/image"},
    ]
    ruleset = loaded(tmp_path, detecting(entries))
    assert ruleset.watched_paths(["/root/", "/home/ann"]) == (
        "/etc/hosts",
        "/home/ann/.aws/credentials",
        "/root/.aws/credentials",
    )


def test_a_path_that_only_a_filter_names_is_not_watched(tmp_path):
    detection = {
        "selection": {"TargetFilename": ["/a", "/b"]},
        "filter": {"TargetFilename": "/c"},
        "condition": "selection and not filter",
    }
    assert loaded(tmp_path, rule(detection=detection)).watched_paths([]) == ("/a", "/b")
