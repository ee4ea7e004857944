// What a maximum length cuts, where a word occurs, and which examples are shown. The page is whole without this.
(() => {
  const data = JSON.parse(document.getElementById("explore-data").textContent);
  const share = (value) => (value > 0 && value < 0.0005 ? "<0.1%" : (100 * value).toFixed(1) + "%");
  const make = (name, className, text) => {
    const element = document.createElement(name);
    if (className) element.className = className;
    if (text !== undefined) element.textContent = text;
    return element;
  };

  const pickLength = (lengths) => {
    const pick = document.getElementById("length-pick");
    const at = document.getElementById("length-at");
    const says = document.getElementById("length-says");
    pick.max = lengths.at.length - 1;
    const nearest = lengths.at.findIndex((length) => length >= lengths.proposed);
    pick.value = nearest < 0 ? lengths.at.length - 1 : nearest;
    const show = () => {
      const place = Number(pick.value);
      const cut = Object.entries(lengths.truncated).map(([part, of]) => share(of[place]) + " of " + part);
      at.value = lengths.at[place] + " tokens";
      pick.setAttribute("aria-valuetext", at.value);
      says.textContent = "Cuts " + cut.join(", ") + ". Padding every text to it would make "
        + share(lengths.padded[place]) + " of all positions padding.";
    };
    pick.addEventListener("input", show);
    show();
    pick.closest(".pick").hidden = false;
  };

  const findWords = (words) => {
    const find = document.getElementById("word-find");
    const says = document.getElementById("word-says");
    const entry = ([word, texts, ...byClass]) => {
      const item = make("li");
      item.append(make("b", "", word), " in " + texts.toLocaleString("en") + " texts (" + share(texts / words.texts) + ")");
      if (!byClass.length) return item;
      const bars = make("div", "bars");
      const shares = byClass.map((held, number) => (words.class_texts[number] ? held / words.class_texts[number] : 0));
      const most = Math.max(...shares) || 1;
      shares.forEach((of, number) => {
        const bar = make("span", "bar");
        const filled = make("i");
        filled.style.width = (100 * of) / most + "%";
        bar.append(filled);
        bars.append(make("span", "", words.classes[number]), bar, make("span", "", share(of)));
      });
      item.append(bars);
      return item;
    };
    const show = () => {
      const asked = find.value.trim().toLowerCase().replaceAll("’", "'");
      says.replaceChildren();
      if (!asked) return;
      const exact = words.listed.filter(([word]) => word === asked);
      const begun = words.listed.filter(([word]) => word !== asked && word.startsWith(asked));
      const found = [...exact, ...begun].slice(0, 5);
      if (!found.length) {
        says.append(make("p", "soft", "not among the listed words"));
        return;
      }
      const list = make("ul", "found");
      list.append(...found.map(entry));
      says.append(list);
    };
    find.addEventListener("input", show);
    find.closest(".find").hidden = false;
  };

  const filterExamples = (kind) => {
    const text = document.getElementById("example-text");
    const count = document.getElementById("example-count");
    const items = [...document.querySelectorAll("li[data-kind]")];
    const show = () => {
      const asked = text.value.trim().toLowerCase();
      let shown = 0;
      for (const item of items) {
        const fits = (!kind.value || item.dataset.kind === kind.value) && item.textContent.toLowerCase().includes(asked);
        item.hidden = !fits;
        shown += fits;
      }
      count.textContent = shown + " of " + items.length + " shown";
    };
    kind.addEventListener("change", show);
    text.addEventListener("input", show);
    show();
    kind.closest(".filters").hidden = false;
  };

  if (data.lengths) pickLength(data.lengths);
  findWords(data.words);
  const kind = document.getElementById("example-kind");
  if (kind) filterExamples(kind);
})();
