package main

func init() {
	caseElsewhere["11-disk-full/case.json"] = "TestFullDisk, TestFullFileSystem and TestOutputFails; TestStandardOutputFails"
	caseElsewhere["12-output-not-a-file/case.json"] = "TestOutputNames; TestWriteNeverReplacesDevices"
	caseElsewhere["42-inputs/case.json"] = "TestCompressed, TestStandardInput"
}
