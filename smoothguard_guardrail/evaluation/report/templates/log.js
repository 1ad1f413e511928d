// Hides the calls that the two filters leave out. Without scripts, all calls are shown and the filters are not.
const calls = [...document.querySelectorAll(".call")];
const verdict = document.getElementById("verdict");
const text = document.getElementById("text");

function apply() {
  const words = text.value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const call of calls) {
    const content = call.textContent.toLowerCase();
    call.hidden = (verdict.value && call.dataset.verdict !== verdict.value) || !words.every((word) => content.includes(word));
  }
  const count = calls.filter((call) => !call.hidden).length;
  document.getElementById("shown").textContent = `${count} of ${calls.length} shown`;
}

if (calls.length) {
  document.querySelector(".filters").hidden = false;
  verdict.addEventListener("change", apply);
  text.addEventListener("input", apply);
  apply();
}

// In the inspector's frame, a link to a place on this page would load the inspector into the frame instead.
if (location.href === "about:srcdoc") {
  document.addEventListener("click", (event) => {
    const link = event.target.closest('a[href^="#"]');
    if (!link) return;
    event.preventDefault();
    const place = document.getElementById(link.hash.slice(1));
    place.scrollIntoView();
    place.focus();
  });
}
