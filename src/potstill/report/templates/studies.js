// A study is a page of its own inside this one. Its tab shows it in a frame, which is made when it is first chosen.
{
  const tabs = [...document.querySelectorAll(".tabs a")];
  const studies = [...document.querySelectorAll(".study")];
  const open = (study) => {
    const frame = document.createElement("iframe");
    const page = JSON.parse(study.querySelector("script").textContent);
    frame.title = study.getAttribute("aria-label");
    frame.srcdoc = page.replace("<head>", '<head><base href="about:srcdoc">'); // else its links would lead to this page
    study.append(frame);
  };
  const show = () => {
    const anchor = location.hash.slice(1).split("?")[0];
    const chosen = studies.find((study) => study.id === anchor);
    const wasInStudy = document.body.classList.contains("in-study");
    for (const study of studies) study.hidden = study !== chosen;
    if (chosen && !chosen.querySelector("iframe")) open(chosen);
    document.body.classList.toggle("in-study", Boolean(chosen));
    for (const tab of tabs) {
      if (tab.hash === (chosen ? `#${chosen.id}` : "#verdict")) tab.setAttribute("aria-current", "page");
      else tab.removeAttribute("aria-current");
    }
    if (wasInStudy && !chosen && anchor) document.getElementById(anchor)?.scrollIntoView();
  };
  if (studies.length) {
    addEventListener("hashchange", show);
    show();
  }
}
