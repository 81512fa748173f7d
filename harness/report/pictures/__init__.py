"""The plots of the HTML report, a module for each subject: ``pictures(records) -> list[Picture]``, none where it has nothing to show."""
