"""The report as JUnit XML, for continuous integration: a suite for each target, a test case for each cell."""

from __future__ import annotations

from xml.etree import ElementTree

from .cells import ABSENT, FAILED, GAP
from .report import Report


def as_junit(report: Report) -> str:
    """The XML text. A declared gap or an absent target is a skipped test, with its reason."""
    suites = ElementTree.Element("testsuites", name="janode conformance")
    for target in report.targets:
        cells = [cell for cell in report.cells if cell.target == target.target]
        suite = ElementTree.SubElement(suites, "testsuite", name=target.target)
        if target.status in (ABSENT, FAILED):
            test = ElementTree.SubElement(suite, "testcase", classname=target.target, name="load", time="0")
            tag = "skipped" if target.status == ABSENT else "failure"
            ElementTree.SubElement(test, tag, message=target.reason)
        for cell in cells:
            seconds = f"{cell.seconds:.3f}"
            test = ElementTree.SubElement(suite, "testcase", classname=cell.target, name=cell.case, time=seconds)
            if cell.status in (FAILED, GAP):
                tag = "failure" if cell.status == FAILED else "skipped"
                ElementTree.SubElement(test, tag, message=cell.message)
        tests = suite.findall("testcase")
        suite.set("tests", str(len(tests)))
        suite.set("failures", str(len(suite.findall("*/failure"))))
        suite.set("skipped", str(len(suite.findall("*/skipped"))))
        suite.set("time", f"{sum(cell.seconds for cell in cells):.3f}")
    ElementTree.indent(suites)
    return ElementTree.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"
