package dev.vigie.backend;

import jakarta.servlet.Filter;
import java.util.concurrent.locks.ReentrantLock;
import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.SpringBootApplication;
import org.springframework.boot.availability.AvailabilityChangeEvent;
import org.springframework.boot.availability.LivenessState;
import org.springframework.boot.availability.ReadinessState;
import org.springframework.context.ApplicationEventPublisher;
import org.springframework.context.annotation.Bean;
import org.springframework.web.bind.annotation.GetMapping;
import org.springframework.web.bind.annotation.PostMapping;
import org.springframework.web.bind.annotation.RequestParam;
import org.springframework.web.bind.annotation.RestController;

/** A minimal service that stops serving on request. */
@SpringBootApplication
@RestController
public class Application {
  private final ApplicationEventPublisher events;
  private final ReentrantLock everybodyNeeds = new ReentrantLock();

  Application(ApplicationEventPublisher events) {
    this.events = events;
  }

  public static void main(String[] arguments) {
    SpringApplication.run(Application.class, arguments);
  }

  @GetMapping("/")
  String hello() {
    return "hello\n";
  }

  /**
   * A thread takes the lock that every request needs, and ends without releasing it. From then on each request of the
   * main port permanently costs Tomcat a thread, and none is answered. A separate management port is not affected.
   */
  @PostMapping("/hang")
  String hang() throws InterruptedException {
    Thread holder = new Thread(everybodyNeeds::lock);
    holder.start();
    holder.join();
    return "hung\n";
  }

  /** REFUSING_TRAFFIC makes readiness OUT_OF_SERVICE, ACCEPTING_TRAFFIC makes it UP again. */
  @PostMapping("/readiness")
  void readiness(@RequestParam ReadinessState state) {
    AvailabilityChangeEvent.publish(events, this, state);
  }

  /** BROKEN makes liveness DOWN; only a restart should undo it. */
  @PostMapping("/liveness")
  void liveness(@RequestParam LivenessState state) {
    AvailabilityChangeEvent.publish(events, this, state);
  }

  @Bean
  Filter needs() {
    return (request, response, chain) -> {
      everybodyNeeds.lock();
      everybodyNeeds.unlock();
      chain.doFilter(request, response);
    };
  }
}
