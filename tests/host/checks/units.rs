//! Units of systemd, and their endpoints.

use super::{NOWHERE, VIGIE, break_and_repair, configure, fault, is_told, look_by, told};
use crate::machine::Machine;

/// The unit of the connector in a place where it can be masked.
const UNIT: &str = "/usr/lib/systemd/system/connector.service";
const RESTARTED: &str = "
[Service]
ExecStart=/bin/sleep infinity
Restart=always
RestartSec=60
";

#[test]
fn a_unit_is_told_as_it_is_and_so_is_an_endpoint_that_does_not_answer() {
    let machine = Machine::start();
    machine.copy_vigie(VIGIE);
    machine.write(UNIT, RESTARTED);
    machine.run("systemctl daemon-reload && systemctl start connector").ok();
    configure(&machine, NOWHERE, "unit: connector.service\nchecks: [{type: Process}]\n");
    let fault = |cause, status, words, cure| fault("Process", cause, status, words, cure);
    let faults = [
        fault(
            "systemctl kill --signal KILL connector",
            "Warn",
            &["connector.service ended (signal 9)", "systemd restarts it by itself"],
            "systemctl start connector",
        ),
        fault(
            "systemctl stop connector",
            "Fail",
            &["connector.service is stopped on purpose", "systemctl start connector.service"],
            "systemctl start connector",
        ),
        fault(
            "systemctl mask --quiet --now connector",
            "Fail",
            &["connector.service is masked: systemctl unmask connector.service"],
            "systemctl unmask --quiet connector && systemctl start connector",
        ),
        fault(
            "systemctl mask --quiet connector",
            "Warn",
            &["connector.service runs, and is masked", "systemctl unmask connector.service"],
            "systemctl unmask --quiet connector",
        ),
        fault(
            "mv /usr/lib/systemd/system/connector.service /tmp/ && systemctl daemon-reload",
            "Warn",
            &["connector.service runs, and cannot be started again (not-found)"],
            "mv /tmp/connector.service /usr/lib/systemd/system/ && systemctl daemon-reload",
        ),
        fault(
            "systemctl stop connector && mv /usr/lib/systemd/system/connector.service /tmp/ && systemctl daemon-reload",
            "Fail",
            &["connector.service does not exist on this host: systemctl status connector.service"],
            "mv /tmp/connector.service /usr/lib/systemd/system/ && systemctl daemon-reload && systemctl start connector",
        ),
        fault(
            "sed -i s/Restart=always/Restart=no/ /usr/lib/systemd/system/connector.service && systemctl daemon-reload",
            "Warn",
            &["nothing restarts it while vigie cannot be reached: set Restart=always"],
            "sed -i s/Restart=no/Restart=always/ /usr/lib/systemd/system/connector.service && systemctl daemon-reload",
        ),
        fault(
            "sed -i s/Restart=always/Restart=no/ /usr/lib/systemd/system/connector.service && systemctl daemon-reload && \
             systemctl kill --signal KILL connector",
            "Fail",
            &["connector.service failed (signal 9) since"],
            "sed -i s/Restart=no/Restart=always/ /usr/lib/systemd/system/connector.service && systemctl daemon-reload && \
             systemctl start connector",
        ),
        fault(
            "mkdir -p /run/systemd/system/connector.service.d && printf '[Service]\\nRestartSec=0\\nExecStart=\\n\
             ExecStart=/bin/sh -c \"echo java.net.ConnectException: Connection refused; exit 3\"\\n' \
             >/run/systemd/system/connector.service.d/x.conf && systemctl daemon-reload && systemctl restart --no-block connector",
            "Fail",
            &["connector.service failed (exit 3) since", "restarted 5 times: java.net.ConnectException"],
            "rm -r /run/systemd/system/connector.service.d && systemctl daemon-reload && systemctl reset-failed connector && \
             systemctl start connector",
        ),
        fault(
            "mv /usr/bin/systemctl /usr/bin/systemctl.away",
            "Unknown",
            &["could not look: systemctl is not installed"],
            "mv /usr/bin/systemctl.away /usr/bin/systemctl",
        ),
    ];
    break_and_repair(&machine, &faults);

    // A unit that did not start at boot was not stopped by a person.
    let late = "[Unit]\nConditionPathExists=/srv/late\n[Service]\nExecStart=/bin/sleep infinity\nRestart=always\n\
                [Install]\nWantedBy=multi-user.target\n";
    machine.write("/etc/systemd/system/late.service", late);
    machine.run("systemctl daemon-reload && systemctl enable --quiet late && systemctl start late").ok();
    configure(&machine, NOWHERE, "unit: late.service\nchecks: [{type: Process}]\n");
    let process = |status, words: &[&str]| {
        is_told(&told(&look_by(&machine, "").0["checks"]), "Process", status, words).unwrap();
    };
    process("Fail", &["late.service was not started since the boot", "systemctl status late.service"]);
    machine.run("touch /srv/late && systemctl start late").ok();
    process("Pass", &[]);

    // An endpoint of the unit: systemd listens, and runs /srv/answer for each connection.
    let endpoint = "unit: connector.service\nchecks: [{type: Process, probe: 'http://127.0.0.1:9000/health'}]\n";
    configure(&machine, NOWHERE, endpoint);
    machine.write("/srv/answer", "#!/bin/sh\nwhile read -r line && [ ${#line} -gt 1 ]; do :; done; cat /srv/head\n");
    machine.run("chmod +x /srv/answer && printf 'HTTP/1.0 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n' >/srv/head").ok();
    machine.write(
        "/etc/systemd/system/web@.service",
        "[Service]\nExecStart=-/srv/answer\nStandardInput=socket\nStandardOutput=socket\n",
    );
    machine.unit("web.socket", "[Socket]\nListenStream=127.0.0.1:9000\nAccept=yes\n");
    let well = "printf 'HTTP/1.0 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n' >/srv/head";
    let faults = [
        fault(
            "printf 'HTTP/1.0 500 Internal Server Error\\r\\nContent-Length: 0\\r\\n\\r\\n' >/srv/head",
            "Fail",
            &["connector.service runs, and does not answer: HTTPStatus 500 on 127.0.0.1:9000/health"],
            well,
        ),
        fault(
            "rm /srv/head && mkfifo /srv/head",
            "Fail",
            &["connector.service runs, and does not answer: FirstByteTimeout on 127.0.0.1:9000/health"],
            "rm /srv/head && printf 'HTTP/1.0 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n' >/srv/head",
        ),
        fault(
            "systemctl stop web.socket",
            "Fail",
            &["connector.service runs, and does not answer: Refused on 127.0.0.1:9000/health"],
            "systemctl start web.socket",
        ),
        fault(
            "sed -i s/127.0.0.1/127.0.0.9/ /etc/systemd/system/web.socket && systemctl daemon-reload && \
             systemctl restart web.socket",
            "Fail",
            &["connector.service runs, and does not answer: Refused on 127.0.0.1:9000/health"],
            "sed -i s/127.0.0.9/127.0.0.1/ /etc/systemd/system/web.socket && systemctl daemon-reload && \
             systemctl restart web.socket",
        ),
    ];
    break_and_repair(&machine, &faults);

    // A backend that listens on another address than the one that it must answer on.
    let unit = "[Service]\nUser=nobody\nExecStart=/bin/busybox httpd -f -p 127.0.0.1:8081 -h /usr/share/vigie-tests\n";
    machine.unit("orders.service", unit);
    let url = format!("http://{}:8081/busybox.tar", machine.address());
    let backend = format!("backends: [{{name: orders, unit: orders.service, probe: '{url}'}}]\n");
    configure(&machine, NOWHERE, &backend);
    let (printed, ran) = look_by(&machine, "");
    let told = &printed["backends"][0];
    assert_eq!(
        (&told["state"], &told["listens"]),
        (&"Running".into(), &serde_json::json!(["127.0.0.1:8081"])),
        "{told}"
    );
    assert_eq!((&told["probe"]["ok"], &told["probe"]["error_class"]), (&false.into(), &"Refused".into()));
    assert_eq!(ran.code, 3, "{ran:?}");
}
