//! The pages as they are served. What they do: `ui/tests/`, in a browser.

use reqwest::Method;

use crate::support::app::TestApp;

#[tokio::test]
async fn pages_load_nothing_from_elsewhere_and_their_files_are_kept() {
    let app = TestApp::start().await;
    for path in ["/", "/ops"] {
        let page = app.get(path).await;
        assert_eq!(page.status, 200, "{path}");
        assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
        assert_eq!(page.header("cache-control"), "no-cache");
        assert_eq!(page.header("referrer-policy"), "no-referrer");
        let policy = page.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'; "), "{policy}");
        assert!(
            !policy.contains("script-src 'unsafe-inline'") && !policy.contains("http"),
            "{policy}"
        );
        let text = page.text();
        assert!(!text.contains("https://") && !text.contains("<script>"), "{text}");

        let files: Vec<_> = text.split('"').filter(|part| part.starts_with("/assets/")).collect();
        if files.is_empty() {
            assert!(text.contains("make ui"), "it says how to build them: {text}");
        }
        for file in files {
            let asset = app.get(file).await;
            assert_eq!(asset.status, 200, "{file}");
            assert!(asset.header("cache-control").contains("immutable"), "{file}");
            let tag = asset.header("etag").to_owned();
            let again = app.request(Method::GET, file).header("If-None-Match", tag);
            let again = app.send(again).await;
            assert_eq!((again.status.as_u16(), again.body.len()), (304, 0));
        }
    }
}

#[tokio::test]
async fn there_are_no_other_files() {
    let app = TestApp::start().await;
    for path in
        ["/assets/none.js", "/assets/..%2findex.html", "/assets/", "/assets/a/b", "/index.html"]
    {
        app.get(path).await.problem(404);
    }
    let post = app.post("/ops").await;
    post.problem(405);
    assert_eq!(post.header("allow"), "GET, HEAD, OPTIONS");
    let head = app.send(app.request(Method::HEAD, "/")).await;
    assert_eq!((head.status.as_u16(), head.body.len()), (200, 0));
}
