package main

func init() {
	caseElsewhere["11-disk-full/case.json"] = "TestFullDisk, TestFullFileSystem and TestOutputFails; TestStandardOutputFails"
	caseElsewhere["12-output-not-a-file/case.json"] = "TestOutputNames; TestWriteNeverReplacesDevices"
	caseElsewhere["19-tunnel-calibration/case.json"] = "TestTunnelsAreOfTheBundle"
	caseElsewhere["42-inputs/case.json"] = "TestCompressed, TestStandardInput"
}
