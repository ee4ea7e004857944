// The lists of rows: filters, order and pages over columns. Only the rows of one page are in the document.
{
  const ROWS_PER_PAGE = 25;
  const TEN_THOUSANDTHS = 10000;

  const unpack = (packed) => {
    const bytes = Uint8Array.from(atob(packed), (letter) => letter.charCodeAt(0));
    return (row) => ((bytes[row >> 3] >> (row & 7)) & 1) === 1;
  };
  const make = (tag, className, ...children) => {
    const element = document.createElement(tag);
    if (className) element.className = className;
    element.append(...children);
    return element;
  };
  const grouped = (number) => number.toLocaleString("en");
  const percent = (tenThousandths) => `${(tenThousandths / 100).toFixed(1)}%`;

  class Failures {
    constructor(root) {
      const data = JSON.parse(root.querySelector("script").textContent);
      this.root = root;
      this.anchor = root.dataset.failures;
      this.data = data;
      this.form = root.querySelector("form");
      this.isWrong = data.wrong === null ? () => false : unpack(data.wrong);
      this.isNegated = unpack(data.negation);
      this.isTruncated = unpack(data.truncated);
      this.teacherIsWrong = data.teacher && data.teacher.wrong !== null ? unpack(data.teacher.wrong) : () => false;
      this.inSlice = data.slices.map((slice) => unpack(slice.rows));
      this.doubts = new Map();
      data.doubts.forEach(([row, given, suggested], rank) => {
        const doubt = this.doubts.get(row) || { rank, words: [] };
        doubt.words.push(`${given} → ${suggested}`);
        this.doubts.set(row, doubt);
      });
      this.orders = new Map();
      this.matching = [];
      this.page = 0;
      this.listen();
      if (matchMedia("(min-width: 46rem)").matches) root.querySelector(".more").open = true;
      if (!this.readAddress()) this.apply();
      else addEventListener("load", () => this.comeIntoView());
    }

    listen() {
      const pageField = this.root.querySelector(".pager input");
      this.form.addEventListener("submit", (event) => event.preventDefault());
      this.form.addEventListener("input", () => this.changed());
      this.form.addEventListener("reset", () => setTimeout(() => this.changed()));
      pageField.addEventListener("change", () => this.turnTo(Number(pageField.value) - 1));
      for (const button of this.root.querySelectorAll("[data-step]")) {
        button.addEventListener("click", () => this.turnTo(this.page + Number(button.dataset.step)));
      }
      addEventListener("hashchange", () => {
        if (this.readAddress()) this.comeIntoView();
      });
    }

    comeIntoView() {
      const heading = this.root.querySelector("h3");
      heading.scrollIntoView({ behavior: "instant" });
      heading.focus({ preventScroll: true });
    }

    // The filters as they stand in the address, so that a view can be linked to.
    changed() {
      const query = new URLSearchParams();
      for (const [name, value] of new FormData(this.form)) {
        const field = this.form.elements[name];
        const first = field.tagName === "SELECT" ? field.options[0].value : "";
        if (value !== first) query.set(name, value);
      }
      try {
        history.replaceState(null, "", `#${this.anchor}?${query}`);
      } catch {
        // A page inside another has no address of its own; its filters work all the same.
      }
      this.apply();
    }

    readAddress() {
      const [anchor, query] = location.hash.slice(1).split("?");
      if (anchor !== this.anchor || query === undefined) return false;
      const wanted = new URLSearchParams(query);
      this.form.reset();
      for (const [name, value] of wanted) {
        const field = this.form.elements.namedItem(name);
        if (field) field.value = value;
        if (field && field.closest(".more")) this.root.querySelector(".more").open = true;
      }
      this.apply();
      return true;
    }

    apply() {
      const tests = this.tests(Object.fromEntries(new FormData(this.form)));
      const ordered = this.ordered(this.form.elements.sort.value);
      this.matching = ordered.filter((row) => tests.every((test) => test(row)));
      this.turnTo(0);
    }

    // One test per filter that is set.
    tests(set) {
      const { data } = this;
      const tests = [];
      const show = this.shows()[set.show];
      if (show) tests.push(show);
      if (set.true) tests.push((row) => data.truth[row] === Number(set.true));
      if (set.predicted) tests.push((row) => data.answer[row] === Number(set.predicted));
      if (set.label) tests.push(this.labelTest(Number(set.label), set.mistake));
      if (set.negation) tests.push((row) => this.isNegated(row) === (set.negation === "1"));
      if (set.slice && this.inSlice[set.slice]) tests.push(this.inSlice[set.slice]);
      const measure = data.confidence === null ? (row) => this.error(row) : (row) => data.confidence[row] / 100;
      if (set.least) tests.push((row) => measure(row) >= Number(set.least));
      if (set.most) tests.push((row) => measure(row) <= Number(set.most));
      if (set.shortest) tests.push((row) => data.words[row] >= Number(set.shortest));
      if (set.longest) tests.push((row) => data.words[row] <= Number(set.longest));
      const search = (set.search || "").trim().toLowerCase();
      if (search) tests.push(this.searchTest(search));
      return tests;
    }

    shows() {
      const { data } = this;
      const off = (row) => data.answer[row] - data.truth[row];
      return {
        wrong: this.isWrong,
        right: (row) => !this.isWrong(row),
        both_wrong: (row) => this.isWrong(row) && this.teacherIsWrong(row),
        only_student_wrong: (row) => this.isWrong(row) && !this.teacherIsWrong(row),
        only_teacher_wrong: (row) => !this.isWrong(row) && this.teacherIsWrong(row),
        both_right: (row) => !this.isWrong(row) && !this.teacherIsWrong(row),
        doubted: (row) => this.doubts.has(row),
        high: (row) => off(row) > 0,
        low: (row) => off(row) < 0,
        worse: (row) => data.loss[row] > data.teacher.loss[row],
        better: (row) => data.loss[row] < data.teacher.loss[row],
      };
    }

    labelTest(label, mistake) {
      const { truth, answer } = this.data;
      return {
        "": (row) => truth[row].includes(label) !== answer[row].includes(label),
        false_positives: (row) => !truth[row].includes(label) && answer[row].includes(label),
        false_negatives: (row) => truth[row].includes(label) && !answer[row].includes(label),
        predicted: (row) => answer[row].includes(label),
        true: (row) => truth[row].includes(label),
      }[mistake || ""];
    }

    searchTest(search) {
      const { text, second } = this.data;
      this.lowered ??= text.map((first, row) => (second ? `${first}\n${second[row]}` : first).toLowerCase());
      return (row) => this.lowered[row].includes(search);
    }

    error(row) {
      return Math.abs(this.data.answer[row] - this.data.truth[row]);
    }

    // All rows, the greatest first and equal ones by id, sorted when it is first asked for.
    ordered(by) {
      if (!this.orders.has(by)) {
        const key = this.keys()[by] || (() => 0);
        const keys = Float64Array.from(this.data.id, (_, row) => key(row));
        this.orders.set(by, [...keys.keys()].sort((a, b) => keys[b] - keys[a] || a - b));
      }
      return this.orders.get(by);
    }

    keys() {
      const { data } = this;
      const last = this.doubts.size;
      return {
        loss: (row) => data.loss[row],
        least_loss: (row) => -data.loss[row],
        sure: (row) => data.confidence[row],
        unsure: (row) => -data.confidence[row],
        longest: (row) => data.words[row],
        shortest: (row) => -data.words[row],
        doubt: (row) => -(this.doubts.has(row) ? this.doubts.get(row).rank : last),
      };
    }

    get pages() {
      return Math.max(1, Math.ceil(this.matching.length / ROWS_PER_PAGE));
    }

    turnTo(page) {
      this.page = Math.min(Math.max(0, Math.trunc(page) || 0), this.pages - 1);
      const start = this.page * ROWS_PER_PAGE;
      const shown = this.matching.slice(start, start + ROWS_PER_PAGE);
      this.root.querySelector(".rows").replaceChildren(...shown.map((row) => this.drawRow(row)));
      this.root.querySelector(".count").textContent = this.counted(start, shown.length);
      this.root.querySelector(".pages").textContent = grouped(this.pages);
      const pageField = this.root.querySelector(".pager input");
      pageField.value = this.page + 1;
      pageField.max = this.pages;
      this.root.querySelector("[data-step='-1']").disabled = this.page === 0;
      this.root.querySelector("[data-step='1']").disabled = this.page === this.pages - 1;
      this.foldLongTexts();
    }

    counted(start, shown) {
      const total = this.matching.length;
      if (!total) return "No row fits these filters.";
      const wrong = this.data.wrong === null ? 0 : this.matching.filter(this.isWrong).length;
      const which = shown < total ? `Rows ${grouped(start + 1)} to ${grouped(start + shown)} of ${grouped(total)}` : `${grouped(total)} rows`;
      return wrong && wrong < total ? `${which}, ${grouped(wrong)} of them wrong.` : `${which}.`;
    }

    drawRow(row) {
      const { data } = this;
      const text = make("div", "text", this.drawText(data.text[row]));
      if (data.second) text.append(this.drawText(data.second[row], "second"));
      if (data.left_out[row]) {
        text.append(make("p", "soft", `${grouped(data.left_out[row])} more characters are not in this page.`));
      }
      return make("li", "", make("div", "facts", ...this.drawFacts(row)), text);
    }

    drawFacts(row) {
      const { data } = this;
      const facts = [this.drawAnswer(row, data, this.isWrong(row))];
      if (data.confidence !== null) facts.push(...this.drawConfidence(row));
      const length = `${grouped(data.words[row])} words, ${grouped(data.tokens[row])} tokens`;
      const marks = [length, this.isTruncated(row) ? "cut for the model" : "", this.isNegated(row) ? "negation" : ""];
      facts.push(make("p", "", marks.filter(Boolean).join(" · ")));
      if (data.teacher) facts.push(this.drawTeacher(row));
      const doubt = this.doubts.get(row);
      if (doubt) facts.push(make("p", "", "label in doubt: ", make("b", "", doubt.words.join(", "))));
      facts.push(make("p", "soft", data.id[row]));
      return facts;
    }

    drawConfidence(row) {
      const share = this.data.confidence[row];
      const bar = make("span", "bar", make("span"));
      bar.firstChild.style.width = `${(100 * share) / TEN_THOUSANDTHS}%`;
      bar.setAttribute("aria-hidden", "true");
      return [make("p", "", `${percent(share)} sure, loss ${this.data.loss[row]}`), bar];
    }

    drawAnswer(row, model, wrong) {
      const { kind, labels, truth } = this.data;
      if (kind === "multi_label_classification") return this.drawLabels(row, model);
      const soft = (words) => make("span", "soft", words);
      const name = kind === "regression" ? (value) => String(value) : (label) => labels[label];
      const said = make(wrong ? "b" : "span", wrong ? "bad" : "", name(model.answer[row]));
      const off = kind === "regression" ? soft(` off by ${this.error(row).toPrecision(3)}`) : "";
      return make("p", "answer", soft("true "), name(truth[row]), soft(" predicted "), said, off);
    }

    drawLabels(row, model) {
      const { labels, truth } = this.data;
      const concerned = labels.map((_, label) => label).filter((label) => truth[row].includes(label) || model.answer[row].includes(label));
      const lines = concerned.map((label, place) => {
        const given = model.answer[row].includes(label);
        const wrong = given !== truth[row].includes(label);
        const what = wrong ? (given ? "wrongly given " : "missed ") : "right ";
        const name = make(wrong ? "b" : "span", wrong ? "bad" : "", labels[label]);
        return make("span", "line", make("span", "soft", what), name, ` (${percent(model.probabilities[row][place])})`, make("br"));
      });
      return make("p", "answer", ...(lines.length ? lines : ["no label, rightly"]));
    }

    drawTeacher(row) {
      const { kind, labels, teacher } = this.data;
      if (kind === "multi_label_classification") {
        const drawn = this.drawLabels(row, teacher);
        drawn.prepend(make("span", "line soft", "teacher", make("br")));
        return drawn;
      }
      const line = make("p", "", make("span", "soft", "teacher "));
      if (kind === "regression") {
        line.append(String(teacher.answer[row]));
        return line;
      }
      const wrong = this.teacherIsWrong(row);
      line.append(`${labels[teacher.answer[row]]}, `, make(wrong ? "b" : "span", wrong ? "bad" : "", wrong ? "wrong" : "right"), ` (${percent(teacher.confidence[row])} sure)`);
      return line;
    }

    // The text as text, never as markup, without empty lines at its start, with what was searched for marked.
    drawText(whole, className = "") {
      const text = whole.replace(/^\s*\n/, "");
      const paragraph = make("p", className);
      paragraph.dir = "auto";
      const search = this.form.elements.search.value.trim().toLowerCase();
      const lowered = text.toLowerCase();
      let from = 0;
      if (search && lowered.length === text.length) {
        for (let at = lowered.indexOf(search); at >= 0; at = lowered.indexOf(search, from)) {
          paragraph.append(text.slice(from, at), make("mark", "", text.slice(at, at + search.length)));
          from = at + search.length;
        }
      }
      paragraph.append(text.slice(from));
      return paragraph;
    }

    foldLongTexts() {
      const texts = [...this.root.querySelectorAll(".rows .text")];
      texts.forEach((text) => text.classList.add("folded"));
      const long = texts.filter((text) => [...text.querySelectorAll("p")].some((p) => p.scrollHeight > p.clientHeight + 2));
      for (const text of long) {
        const button = make("button", "", "Whole text");
        button.type = "button";
        button.setAttribute("aria-expanded", "false");
        button.addEventListener("click", () => {
          const folded = text.classList.toggle("folded");
          button.textContent = folded ? "Whole text" : "Fold";
          button.setAttribute("aria-expanded", String(!folded));
        });
        text.append(button);
      }
    }
  }

  for (const root of document.querySelectorAll("[data-failures]")) new Failures(root);
}
