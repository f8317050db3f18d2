#!/usr/bin/env python3
"""The promises of src/native/fetch.py, kept with a real pip and small made-up wheels, without a network."""

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
import venv
import zipfile
from pathlib import Path
from unittest import mock

SOURCE = Path(__file__).resolve().parents[1] / "src" / "native" / "fetch.py"
WHEEL = "onnxruntime-1.32.0-cp312-cp312-manylinux_2_28_x86_64.whl"
METADATA = "Metadata-Version: 2.1\nName: onnxruntime\nVersion: 1.32.0\n"


class Fetch(unittest.TestCase):
    def setUp(self):
        self.root = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.root)
        self.script = self.root / "src" / "native" / "fetch.py"
        self.script.parent.mkdir(parents=True)
        shutil.copy(SOURCE, self.script)
        self.index = self.root / "index"
        self.index.mkdir()
        self.library = self.root / ".native" / "onnxruntime" / "lib" / "libonnxruntime.so.1"
        self.make_wheel()

    def make_wheel(self, taken="onnxruntime/capi/libonnxruntime.so.1.32.0"):
        with zipfile.ZipFile(self.index / WHEEL, "w") as wheel:
            wheel.writestr(taken, "the library")
            wheel.writestr("onnxruntime/LICENSE", "the licence")
            wheel.writestr("onnxruntime/left_out.py", "not needed")
            wheel.writestr("onnxruntime-1.32.0.dist-info/METADATA", METADATA)
            wheel.writestr("onnxruntime-1.32.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: cp312-cp312-manylinux_2_28_x86_64\n")
            wheel.writestr("onnxruntime-1.32.0.dist-info/RECORD", "")
        self.pin(hashlib.sha256((self.index / WHEEL).read_bytes()).hexdigest())

    def pin(self, sha256):
        (self.script.parent / "wheels.txt").write_text(f"# comment\n\nonnxruntime 1.32.0 {WHEEL} {sha256}\n")

    def start(self, *arguments, python=sys.executable, **variables):
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PIP_") and k not in ("LIBTORCH", "BYOL_ONNXRUNTIME")}
        environment.update({"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(self.index)}, **variables)
        return subprocess.Popen([str(python), str(self.script), *arguments], env=environment,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True)

    def run_it(self, *arguments, **options):
        process = self.start(*arguments, **options)
        out, err = process.communicate()
        return process.returncode, out, err

    def assert_refused(self, result, *words):
        code, _, err = result
        self.assertEqual(code, 1, err)
        self.assertNotIn("Traceback", err)
        for word in words:
            self.assertIn(word, err)
        native = self.root / ".native"
        left = [path.name for path in native.iterdir()] if native.exists() else []
        self.assertLessEqual(set(left), {"lock"}, "nothing half-done is left")

    def test_unpacks_what_is_needed_and_deletes_the_wheel(self):
        code, _, err = self.run_it("onnxruntime")
        self.assertEqual((code, err), (0, ""))
        self.assertEqual(self.library.read_text(), "the library")
        self.assertFalse(os.path.isabs(os.readlink(self.library)), "so that the folder can be moved")
        files = sorted(path.name for path in (self.root / ".native").rglob("*") if path.is_file())
        self.assertEqual(files, ["LICENSE", "libonnxruntime.so", "libonnxruntime.so.1", "libonnxruntime.so.1.32.0", "lock", "stamp"])

    def test_a_second_run_does_nothing_and_needs_no_index(self):
        self.run_it("onnxruntime")
        before = self.library.stat().st_mtime_ns
        self.assertEqual(self.run_it("onnxruntime", PIP_FIND_LINKS=str(self.root / "nowhere")), (0, "", ""))
        self.assertEqual(self.library.stat().st_mtime_ns, before)

    def test_a_new_pin_replaces_the_old_library(self):
        self.run_it("onnxruntime")
        (self.index / WHEEL).unlink()
        self.make_wheel(taken="onnxruntime/capi/libonnxruntime.so.1.32.0")
        with zipfile.ZipFile(self.index / WHEEL, "a") as wheel:
            wheel.writestr("onnxruntime/ThirdPartyNotices.txt", "new")
        self.pin(hashlib.sha256((self.index / WHEEL).read_bytes()).hexdigest())
        self.assertEqual(self.run_it("onnxruntime")[0], 0)
        self.assertTrue((self.root / ".native" / "onnxruntime" / "ThirdPartyNotices.txt").exists())

    def test_parallel_callers_share_one_download(self):
        processes = [self.start("onnxruntime") for _ in range(3)]
        outputs = [process.communicate() for process in processes]
        self.assertEqual([process.returncode for process in processes], [0, 0, 0], outputs)
        self.assertEqual(sum("downloading" in out for out, _ in outputs), 1)

    def test_what_a_killed_run_left_is_removed(self):
        left_over = self.root / ".native" / "unfinished-abc"
        left_over.mkdir(parents=True)
        self.assertEqual(self.run_it("onnxruntime")[0], 0)
        self.assertFalse(left_over.exists())

    def test_another_file_under_the_same_name_is_refused(self):
        self.pin("0" * 64)
        self.assert_refused(self.run_it("onnxruntime"), "not the file that was pinned", "0" * 64, "Try again")

    def test_a_wheel_without_the_library_is_refused(self):
        self.make_wheel(taken="onnxruntime/capi/another.so")
        self.assert_refused(self.run_it("onnxruntime"), "holds nothing like")

    def test_no_network_is_said(self):
        unreachable = dict(PIP_NO_INDEX="0", PIP_FIND_LINKS="", PIP_INDEX_URL="http://127.0.0.1:9/simple", PIP_RETRIES="1")
        self.assert_refused(self.run_it("onnxruntime", **unreachable), "could not reach", "Check the network")

    def test_an_index_without_the_wheel_shows_what_pip_said(self):
        (self.index / WHEEL).unlink()
        self.assert_refused(self.run_it("onnxruntime"), "could not download onnxruntime 1.32.0", "No matching distribution")

    def test_no_pip_is_said(self):
        venv.create(self.root / "bare", with_pip=False)
        self.assert_refused(self.run_it("onnxruntime", python=self.root / "bare" / "bin" / "python"), "has no pip", "apt-get install")

    def test_a_full_disk_is_said_before_anything_is_downloaded(self):
        self.assert_refused_inside(mock.patch("shutil.disk_usage", return_value=mock.Mock(free=10_000_000)), "10 MB are free")

    def test_a_disk_that_fills_up_on_the_way_is_said(self):
        self.assert_refused_inside(mock.patch("shutil.copyfileobj", side_effect=OSError(28, "No space left")), "not enough space")

    def test_another_platform_is_told_what_to_set(self):
        self.assert_refused_inside(mock.patch("platform.machine", return_value="aarch64"), "BYOL_ONNXRUNTIME")

    def assert_refused_inside(self, patch, *words):
        """As assert_refused, in this process, so that a part of the standard library can be replaced."""
        spec = importlib.util.spec_from_file_location("fetch", self.script)
        fetch = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(fetch)
        variables = {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(self.index), "BYOL_ONNXRUNTIME": ""}
        with patch, mock.patch.dict(os.environ, variables), mock.patch("builtins.print") as printed:
            code = fetch.main(["onnxruntime"])
        self.assert_refused((code, "", str(printed.mock_calls[-1])), *words)

    def test_a_copy_of_ones_own_is_used(self):
        code, out, _ = self.run_it(BYOL_ONNXRUNTIME="/opt/mine.so", LIBTORCH="/opt/torch")
        self.assertEqual(code, 0)
        self.assertIn("onnxruntime: using your BYOL_ONNXRUNTIME=/opt/mine.so", out)
        self.assertIn("torch: using your LIBTORCH=/opt/torch", out)
        self.assertFalse((self.root / ".native").exists())

    def test_an_unknown_library_is_an_error_of_use(self):
        code, _, err = self.run_it("tensorflow")
        self.assertEqual(code, 2)
        self.assertIn("known: onnxruntime, torch", err)


if __name__ == "__main__":
    unittest.main()
