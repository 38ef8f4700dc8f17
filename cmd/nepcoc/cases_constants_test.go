package main

func init() {
	caseRows = append(caseRows, // that the bytes are the same on every CPU: TestArm64Constants
		caseRow{file: "outputs/lora.onnx", args: []string{"compile", "$F", "--calib", "$CASES/outputs/lora.npz", "-o", "$TMP/lora.nepco"}, want: []string{`compiled in`}})
}
