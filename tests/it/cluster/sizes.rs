//! Requests and outputs of every size.

use super::*;

const KIB: usize = 1 << 10;

/// Text that does not get smaller, without a line's end: xorshift, Marsaglia 2003.
fn noise(bytes: usize) -> String {
    let mut state = 88_172_645_463_325_252_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(b'!' + ((state >> 32) % 94) as u8)
    };
    (0..bytes).map(|_| next()).collect()
}

async fn stdout(app: &TestApp, submission: &Value, test: usize) -> Vec<u8> {
    let id = submission["id"].as_str().unwrap();
    let answer = app.get(&format!("/v1/submissions/{id}/stdout?test={test}")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.body
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_every_size_reach_the_node_byte_exact() {
    let nomad = Nomad::shared().await;
    let app = daemon(&nomad, &[]).await;
    for (size, is_fetched) in [(KIB, false), (20 * KIB, true), (900 * KIB, true)] {
        // It prints itself.
        let program = "cat \"$0\"; exit # ";
        let source = format!("{program}{}", noise(size - program.len()));
        let mut request = bash(&source);
        request["limits"]["output_bytes"] = json!(2 << 20);
        let submission = app.run(&request).await;
        assert_eq!(
            submission["outcome"]["verdict"], "accepted",
            "{size} bytes: {}",
            submission["outcome"]["reason"]
        );
        let output = stdout(&app, &submission, 1).await;
        assert!(output == source.as_bytes(), "{size} bytes came back as {}", output.len());
        let job = submission["placement"]["job_id"].as_str().unwrap();
        assert_eq!(job.contains("-fetch/"), is_fetched, "{size} bytes by {job}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_about_as_long_as_a_payload_may_be_reach_the_node() {
    let nomad = Nomad::shared().await;
    let app = daemon(&nomad, &[]).await;
    let mut failures = Vec::new();
    for size in (18_000..20_400).step_by(300) {
        let submission = app.run(&bash(&format!("echo 42; exit # {}", noise(size)))).await;
        if submission["outcome"]["verdict"] != "accepted" {
            failures.push((size, submission["outcome"]["reason"].clone()));
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn outputs_of_every_size_come_back_byte_exact() {
    let nomad = Nomad::shared().await;
    let app = daemon(&nomad, &[]).await;
    let formula = "import sys; sys.stdout.buffer.write(bytes((i * i + i // 7) & 255 for i in range(1 << 20)))";
    let binary: Vec<u8> = (0..1_usize << 20).map(|i| (i * i + i / 7) as u8).collect();
    let python = json!({
        "language": "python", "source": formula, "limits": { "output_bytes": 2 << 20 },
    });
    for (request, expected) in
        [(bash("true"), vec![]), (bash("printf x"), b"x".to_vec()), (python, binary)]
    {
        let submission = app.run(&request).await;
        assert_eq!(submission["outcome"]["verdict"], "accepted");
        let output = stdout(&app, &submission, 1).await;
        assert!(output == expected, "{} bytes came back as {}", expected.len(), output.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_outputs_of_one_submission_come_back_byte_exact() {
    let nomad = Nomad::shared().await;
    let app = daemon(&nomad, &[]).await;
    let source = "n=$(cat); yes \"line of test $n\" | head -c 102400";
    let mut request = bash(source);
    request["limits"] = json!({ "output_bytes": 200 * KIB, "wall_time_ms": 10_000 });
    request["tests"] = (1..=100).map(|n| json!({ "stdin": n.to_string() })).collect();
    let submission = app.run(&request).await;
    assert_eq!(submission["outcome"]["verdict"], "accepted", "{}", submission["outcome"]["reason"]);
    for n in 1..=100 {
        let line = format!("line of test {n}\n");
        let expected: Vec<u8> = line.bytes().cycle().take(100 * KIB).collect();
        let output = stdout(&app, &submission, n).await;
        assert!(output == expected, "test {n}: {} bytes", output.len());
    }
}
