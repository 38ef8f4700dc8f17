package c

import (
	"fmt"
	"sort"
	"strings"

	"nepcoc/runtime/bundle"
)

// write adds a line to the source.
type write func(format string, args ...any)

// call is the call of step i.
func (u *unit) call(i int) string {
	s := &u.p.Steps[i]
	var args []string
	for j, v := range s.In {
		if j == 0 || !u.l.inPlace[i] {
			args = append(args, u.value(v))
		}
	}
	if f := u.l.fused[s.Out]; f >= 0 {
		args = append(args, u.value(f))
	} else {
		args = append(args, u.value(s.Out))
	}
	switch {
	case s.Op == bundle.OpTokenTable:
		args = append(args, "tokens")
		if _, ok := u.lookups[i]; ok {
			args = append(args, "x->tables")
		}
	case s.Op == bundle.OpSide:
		args = append(args, "numbers")
	case s.GatedConv != nil && s.GatedConv.Norm != nil:
		args = append(args, fmt.Sprintf("(int16_t *)(mem + %d)", u.l.scratch))
	case s.Pool != nil && s.Pool.Over == "prefix" && s.Pool.Kind != "select" && !u.l.steps[i]:
		args = append(args, "valid")
	}
	rows := fmt.Sprintf("r[%d]", s.Out)
	switch from, _ := u.span(s); {
	case u.l.steps[i]:
		if u.based(i) {
			args = append(args, "base")
		}
		args = append(args, "from - base, to - base")
	case from == "from":
		if u.based(i) {
			args = append(args, "0")
		}
		args = append(args, "0", rows)
	case u.rows(s) == "rows":
		args = append(args, rows)
	}
	if u.pathed(s) {
		args = append(args, "x->path")
	}
	return fmt.Sprintf("step%d(%s)", i, strings.Join(args, ", "))
}

// running writes what computes a result: the rows that are wanted, the region, the steps behind it, and all of them for one flow.
func (u *unit) running(f write) {
	numbers := u.numbers("const int32_t *numbers, ")
	f(`
typedef struct {
	const uint8_t *tables;
	uint32_t ready;
	int path;
} context;

/* the rows of a value that are wanted, of all that it has */
static MAYBE_UNUSED int wanted(int now, int rows, int all)
{
	rows = rows < all ? rows : all;
	return rows > now ? rows : now;
}

/* how many rows of each value the result of a flow of valid tokens depends on, and these tokens */
static void wants(int valid, int *r)
{
	memset(r, 0, %[1]d * sizeof *r);
	r[%[1]d] = valid;`, len(u.p.Values))
	for _, o := range u.p.Outputs {
		f("\tr[%d] = 1;", o.Value)
	}
	for i := len(u.p.Steps) - 1; i >= 0; i-- {
		if s := &u.p.Steps[i]; u.l.live[i] {
			for j, expr := range needs(u.p, s, fmt.Sprintf("r[%d]", s.Out)) {
				f("\tr[%d] = wanted(r[%d], %s, %d);", s.In[j], s.In[j], expr, u.p.Values[s.In[j]].Rows)
			}
		}
	}
	f("}")
	if u.l.streams() {
		u.region(f)
	}
	f(`
/* %s */
static void rest(const context *x, uint8_t *mem, const uint8_t *state, const int32_t *tokens, %sint valid, const int *r, %s_result *result)
{
	int i;
	(void)x;
	(void)state;
	(void)tokens;
	(void)valid;
	(void)r;
	(void)mem;%s`, map[bool]string{true: "the steps behind the region", false: "all steps"}[u.l.streams()], numbers, u.prefix(), u.numbers("\n\t(void)numbers;"))
	for _, i := range u.l.order {
		if !u.l.steps[i] && !u.l.taken(&u.p.Steps[i]) {
			f("\t%s;", u.call(i))
		}
	}
	names := u.outputs()
	for i, o := range u.p.Outputs {
		f("\tfor (i = 0; i < %d; i++) {\n\t\tresult->%s[i] = %s;\n\t}", u.p.Values[o.Value].Cols, names[i], u.at("("+u.value(o.Value)+")", o.Value, "0", "i"))
	}
	f("}")
	u.finish(f)
}

// region writes the function that runs the region's steps for the next positions.
func (u *unit) region(f write) {
	l := u.l
	var widths []int
	for _, n := range l.region.past {
		if i := sort.SearchInts(widths, n); n > 0 && (i == len(widths) || widths[i] != n) {
			widths = append(widths[:i], append([]int{n}, widths[i:]...)...)
		}
	}
	raise := "0"
	if l.raised {
		raise = "(uint32_t)RAISE(x->path) * 0x1010101u"
	}
	for _, n := range widths {
		f(`
/* the last %d columns of each channel, from one tile to the next */
static MAYBE_UNUSED void carry%d(int8_t *to, const int8_t *from, int channels, int to_stride, int from_stride, uint32_t raise)
{
	int c, i;
	for (c = 0; c + 4 <= channels; c += 4) { /* compilers write out four */
		for (i = 0; i < 4; i++, to += to_stride, from += from_stride) {
			carry(to, from, %d, raise);
		}
	}
	for (; c < channels; c++, to += to_stride, from += from_stride) {
		carry(to, from, %d, raise);
	}
}`, n, n, n, n)
	}
	base := "0"
	if l.tile > 0 {
		base = "done"
	}
	f(`
/* the row that a value has come to which trails the tokens by lag */
static int behind(int tokens, int lag)
{
	return tokens > lag ? tokens - lag : 0;
}

/* The local region for tokens done to end of a flow: of each value the rows that follow from these, or, with the rows r that are
 * wanted, all that is left of them. Position 0 of values in mem is row base; what a value's readers look back at lies in state. */
static void region(const context *x, uint8_t *mem, uint8_t *state, const int32_t *tokens, int done, int end, const int *r)
{
	const int base = %s;
	int from, to;
	(void)x;
	(void)mem;`, base)
	for _, i := range l.order {
		s := &u.p.Steps[i]
		if !l.steps[i] || l.taken(s) {
			continue
		}
		v := s.Out
		f("\n\tfrom = behind(done, %d);", l.lag[v])
		wanted := fmt.Sprintf("r[%d]", v)
		if s.Op == bundle.OpPool {
			wanted = fmt.Sprint(u.p.Values[s.In[0]].Rows)
			if s.Pool.Over == "prefix" {
				wanted = fmt.Sprintf("r[%d]", len(u.p.Values))
			}
		}
		f("\tto = r != NULL ? %s : behind(end, %d);", wanted, l.lag[v])
		n := l.region.past[v]
		column := fmt.Sprintf("%s + (%d + %%s - base)", u.value(v), l.left[v]-n)
		carried, cols := fmt.Sprintf("(int8_t *)(state + %d)", l.past[v]), u.p.Values[v].Cols
		if n > 0 {
			f("\tif (done > 0) {")
			u.carryRows(f, v, n, "from", false)
			f("\t\tcarry%d(%s, %s, %d, %d, %d, %s);\n\t}", n, fmt.Sprintf(column, "from"), carried, cols, l.stride[v], n, raise)
		}
		f("\tif (to > from) {\n\t\t%s;\n\t}", u.call(i))
		if n > 0 {
			f("\tif (r == NULL) {")
			u.carryRows(f, v, n, "to", true)
			f("\t\tcarry%d(%s, %s, %d, %d, %d, %s);\n\t}", n, carried, fmt.Sprintf(column, "to"), cols, n, l.stride[v], raise)
		}
	}
	f("}")
}

// finish writes the function that computes what is left of a flow, tile by tile.
func (u *unit) finish(f write) {
	l, numbers := u.l, u.numbers("const int32_t *numbers, ")
	f(`
/* the n tokens after the first at of those given; behind them is padding */
static void fill(int32_t *row, const int32_t *tokens, int given, int at, int n)
{
	int i;
	for (i = 0; i < n; i++, at++) {
		row[i] = at < given ? tokens[at] : %d;
	}
}

/* The result of a flow of valid tokens, of which the region has seen done. tokens are the given ones from there on; after
 * them comes padding. */
static void finish(const context *x, int32_t *row, uint8_t *mem, uint8_t *state, const int32_t *tokens, int given, int done, %sint valid, %s_result *result)
{
	int r[%d]; /* rows */
	wants(valid, r);`, u.pad(), numbers, u.prefix(), len(u.p.Values)+1)
	tail := fmt.Sprintf("rest(x, mem, state, row, %svalid, r, result);", u.numbers("numbers, "))
	if l.tile == 0 {
		f("\tfill(row + done, tokens, given, 0, %d - done);", u.p.Length)
		if l.streams() {
			f("\tregion(x, mem, state, row, done, %d, r);", u.p.Length)
		}
		f("\t%s\n}", tail)
		return
	}
	extent := fmt.Sprint(u.p.Length)
	if l.prefix {
		extent = "valid"
	}
	f(`	{
		/* the rows up to which values are wanted, and those up to which all of them are */
		const int first = done, last = wanted(0, %[1]s + %[2]d, %[3]d), all = %[1]s + %[4]d;
		while (last - done > %[5]d && done < all) {
			const int end = all - done < %[5]d ? all : done + %[5]d;
			fill(row, tokens, given, done - first, end - done);
			region(x, mem, state, row, done, end, NULL);
			done = end;
		}
		fill(row, tokens, given, done - first, last - done);
		region(x, mem, state, row, done, last, r);
	}
	%[6]s
}`, extent, l.ahead, u.p.Length, l.early, l.tile, tail)
}

// runs writes the functions that users call.
func (u *unit) runs(f write) {
	p, m, l := u.prefix(), u.macro(), u.l
	numbers, given, first := u.numbers("const int32_t *numbers, "), u.numbers("numbers, "), ""
	if u.p.Sides > 0 {
		first = "numbers"
	}
	f(`
/* 0, or what is wrong with a context */
static int usable(const void *ctx)
{
	return ctx != NULL && (uintptr_t)ctx %% %[2]s_CTX_ALIGN == 0 && ((const context *)ctx)->ready == READY ? 0 : %[2]s_ECONTEXT;
}

/* 0, or what is wrong with n numbers that must be below most */
static int below(const int32_t *numbers, int n, int32_t most)
{
	int i;
	for (i = 0; i < n; i++) {
		if (numbers[i] < 0 || numbers[i] >= most) {
			return %[2]s_ETOKEN;
		}
	}
	return 0;
}

/* run of which tokens are given, the first valid of them the flow's own */
static int run(void *ctx, const int32_t *tokens, int given, int valid, %[3]s%[1]s_result *result)
{
	uint8_t *memory = ctx;
	int rc;
	if (valid < 1 || valid > %[2]s_LENGTH) {
		return %[2]s_EVALID;
	}
	rc = usable(ctx);`, p, m, numbers)
	check := func() {
		f("\tif (rc == 0) {\n\t\trc = below(tokens, given, %s_VOCAB);\n\t}", m)
		if first != "" {
			f("\tif (rc == 0) {\n\t\trc = below(numbers, %d, 1 << 24);\n\t}", u.p.Sides)
		}
	}
	check()
	f(`	if (rc == 0) {
		finish(ctx, (int32_t *)(memory + %d), memory + %d, memory + %d, tokens, given, 0, %svalid, result);
	}
	return rc;
}

int %s_run(void *ctx, const int32_t *tokens, int n, %s%s_result *result)
{
	return run(ctx, tokens, n, n, %sresult);
}

int %s_run_padded(void *ctx, const int32_t *tokens, int n, %s%s_result *result)
{
	return run(ctx, tokens, %s_LENGTH, n, %sresult);
}`, align, l.header(), l.header()+l.size, given, p, numbers, p, given, p, numbers, p, m, given)
	u.streaming(f)
	u.batch(f)
}
