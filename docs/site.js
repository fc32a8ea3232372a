// Links within notebooks name files, as they must where the notebook is read by itself; here they lead to pages.
document$.subscribe(() => {
  for (const link of document.querySelectorAll(".jupyter-wrapper a[href]")) {
    const href = link.getAttribute("href")
    if (!/^[a-z]+:/.test(href))
      link.setAttribute(
        "href",
        href.replace(/README\.md(?=$|#)/, "index.html").replace(/\.(md|ipynb)(?=$|#)/, ".html"),
      )
  }
})
